//! From a manifest and the command line to what a pod gets: the VMI, files, init's arguments.

mod cluster;
mod dns;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use crds::VirtualMachineInstance;
use crds::manifest;
use k8s_openapi::api::core::v1::LocalObjectReference;

use super::sandbox::{Attached, Sandbox};
use super::shim::{self, Mount, SANDBOX, Spec};
use super::timeline::Timeline;
use super::{RunArgs, cache, cni};
use crate::convert::{Accelerator, KernelBoot};
use crate::images::{Progress, Puller, Store};
use crate::network::PRIMARY;
use crate::pod::{self, Pod, QEMU_ID, RUNTIME_DIR};
use crate::volumes::{Layout, SecretData, host_disk};

/// A manifest is read whole; nobody writes one this long (bytes).
const LONGEST_MANIFEST: u64 = 4 << 20;

/// As much as a Secret of a cluster holds (bytes).
const LARGEST_SECRET: u64 = 1 << 20;

/// How long what CNI said may take to be so, in seconds: duplicate address detection takes one or
/// two.
const NETWORK_SECONDS: u32 = 10;

/// `NAME=PATH`: a file of this machine that stands for an object of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The object's name.
    pub name: String,
    /// The file or directory.
    pub path: PathBuf,
}

impl FromStr for Binding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Self {
                name: name.to_owned(),
                path: path.into(),
            }),
            _ => Err(format!("{text:?} is not NAME=PATH")),
        }
    }
}

/// Reads a manifest; returns the instance with its defaults, and what is worth a warning.
///
/// # Errors
/// Where the file cannot be read, or says something that cannot be meant: one line a field.
pub fn load(path: &Path) -> anyhow::Result<(VirtualMachineInstance, Vec<String>)> {
    let shown = path.display();
    let text = read(path).with_context(|| format!("cannot read {shown}"))?;
    let manifest = manifest::parse(&text).map_err(|error| anyhow!("{shown}: {error}"))?;
    let mut errors = manifest.validate();
    errors.extend(cluster::required(&manifest));
    if !errors.is_empty() {
        let lines: Vec<String> = errors
            .iter()
            .map(|error| format!("{shown}: {error}"))
            .collect();
        bail!("{}", lines.join("\n"));
    }
    let warnings = cluster::ignored(&manifest);
    let mut vmi = manifest.into_vmi();
    crds::default(&mut vmi);
    Ok((vmi, warnings))
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(fs::File::open(path)?),
    };
    source
        .take(LONGEST_MANIFEST + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_MANIFEST {
        return Err(std::io::Error::other(
            "it is longer than 4 MiB, so it is no manifest",
        ));
    }
    Ok(text)
}

/// The host's files that a VMI asks for.
pub(super) struct Resolved {
    /// Each with its place below the runtime directory.
    mounts: Vec<Mount>,
    secrets: Vec<Secret>,
}

/// A secret's data. Copied, not mounted: its file is rightly closed to the pod's user.
struct Secret {
    data: Vec<u8>,
    /// Its place, relative to the runtime directory.
    target: PathBuf,
}

/// Finds every file that the VMI needs, pulls what has to be pulled, makes what has to be made.
pub(super) fn resolve(
    root: &Path,
    args: &RunArgs,
    vmi: &VirtualMachineInstance,
    timeline: &Timeline,
) -> anyhow::Result<Resolved> {
    let puller = Puller {
        insecure_registries: args.insecure_registry.clone(),
        ..Puller::default()
    };
    let store =
        Store::new(root.join("images"), args.images.clone(), Some(puller)).with_progress(Told);
    let layout = Layout::new(RUNTIME_DIR);
    let relative = |target: PathBuf| match target.strip_prefix(RUNTIME_DIR) {
        Ok(target) => target.to_owned(),
        Err(_) => target,
    };
    let mut secret_data = vec![];
    let mut mounts = vec![];
    let mut add = |source: PathBuf, target: PathBuf, read_only: bool| {
        mounts.push(Mount {
            source,
            target: relative(target),
            read_only,
        });
    };
    for volume in &vmi.spec.volumes {
        let name = &volume.name;
        if let Some(disk) = &volume.container_disk {
            timeline.doing(&format!("image {}", disk.image));
            add(
                store.container_disk(disk)?,
                layout.container_disk(name),
                true,
            );
            timeline.done("image", &disk.image);
        }
        if let Some(disk) = &volume.host_disk {
            host_disk::ensure(name, disk, QEMU_ID, QEMU_ID)?;
            let file = Path::new(&disk.path).file_name().unwrap_or_default();
            add(
                disk.path.clone().into(),
                layout.host_disk(name, &file.to_string_lossy()),
                false,
            );
        }
        if let Some(ephemeral) = &volume.ephemeral
            && let Some(claim) = &ephemeral.persistent_volume_claim
        {
            let file = bound(&args.claims, "claim", &claim.claim_name)?;
            add(claim_file(file, true)?, layout.claim(name), true);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let file = bound(&args.claims, "claim", &claim.claim_name);
            let file = file.with_context(|| format!("volume {name}"))?;
            let read_only = claim.read_only == Some(true);
            add(claim_file(file, read_only)?, layout.claim(name), read_only);
        }
        for (secret, data) in secrets(volume) {
            let path = secret_file(bound(&args.secrets, "secret", &secret.name)?, data)?;
            let [key, _] = data.keys();
            secret_data.push(Secret {
                data: read_secret(&path)?,
                target: relative(layout.secret(name, data).join(key)),
            });
        }
    }
    if let Some(container) = kernel_container(vmi) {
        timeline.doing(&format!("image {}", container.image));
        let KernelBoot { kernel, initrd } = store.kernel_boot(container)?;
        timeline.done("image", &container.image);
        let inside = layout.kernel_boot(kernel.is_some(), initrd.is_some());
        let files = [(kernel, inside.kernel), (initrd, inside.initrd)];
        for (source, target) in files {
            if let (Some(source), Some(target)) = (source, target) {
                add(source, target, true);
            }
        }
    }
    Ok(Resolved {
        mounts,
        secrets: secret_data,
    })
}

fn kernel_container(vmi: &VirtualMachineInstance) -> Option<&crds::KernelBootContainer> {
    let boot = vmi.spec.domain.firmware.as_ref()?.kernel_boot.as_ref()?;
    boot.container.as_ref()
}

/// The secrets that a cloud-init volume refers to, each with the kind of data it holds.
fn secrets(volume: &crds::Volume) -> Vec<(&LocalObjectReference, SecretData)> {
    let (user, network) = match (&volume.cloud_init_no_cloud, &volume.cloud_init_config_drive) {
        (Some(source), _) => (&source.secret_ref, &source.network_data_secret_ref),
        (None, Some(source)) => (&source.secret_ref, &source.network_data_secret_ref),
        (None, None) => return vec![],
    };
    let user = user.iter().map(|secret| (secret, SecretData::User));
    user.chain(network.iter().map(|secret| (secret, SecretData::Network)))
        .collect()
}

fn bound<'a>(bindings: &'a [Binding], kind: &str, name: &str) -> anyhow::Result<&'a Path> {
    let found = bindings.iter().find(|binding| binding.name == name);
    found.map(|binding| binding.path.as_path()).ok_or_else(|| {
        anyhow!("the manifest refers to the {kind} {name:?}; give it with --{kind} {name}=PATH")
    })
}

/// The file of a secret's key: in its directory, or the file itself.
fn secret_file(path: &Path, data: SecretData) -> anyhow::Result<PathBuf> {
    if !path.is_dir() {
        return regular(path);
    }
    let names = data.keys();
    let found = names
        .iter()
        .map(|name| path.join(name))
        .find(|file| file.is_file());
    found.ok_or_else(|| {
        anyhow!(
            "{} holds no file named {}; make one",
            path.display(),
            names.join(" or ")
        )
    })
}

fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let file = fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut data = vec![];
    file.take(LARGEST_SECRET + 1)
        .read_to_end(&mut data)
        .with_context(|| format!("cannot read {shown}"))?;
    if data.len() as u64 > LARGEST_SECRET {
        bail!("{shown} is longer than 1 MiB, the most that a Secret holds; make it shorter");
    }
    Ok(data)
}

/// The file of a claim, which the pod sees with the host's mode and owner.
fn claim_file(path: &Path, read_only: bool) -> anyhow::Result<PathBuf> {
    let file = regular(path)?;
    let meta = fs::metadata(&file).with_context(|| format!("cannot read {}", path.display()))?;
    let (may, mode) = match read_only {
        true => ("read", "o+r"),
        false => ("write", "o+rw"),
    };
    if !is_allowed(meta.mode(), meta.uid(), meta.gid(), read_only) {
        let shown = path.display();
        bail!(
            "user {QEMU_ID}, whom the VM runs as, may not {may} {shown}; try: chmod {mode} {shown}"
        );
    }
    Ok(file)
}

/// Whether the pod's user may read a file with this mode and owner, and write it too.
fn is_allowed(mode: u32, owner: u32, group: u32, read_only: bool) -> bool {
    let bits = if read_only { 0o4 } else { 0o6 };
    let shift = match (owner, group) {
        (QEMU_ID, _) => 6,
        (_, QEMU_ID) => 3,
        _ => 0,
    };
    mode >> shift & bits == bits
}

fn regular(path: &Path) -> anyhow::Result<PathBuf> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !meta.is_file() {
        bail!("{} is no regular file; name one", path.display());
    }
    Ok(path.to_owned())
}

/// Fills the sandbox's directory and writes down what its processes are to do.
///
/// The pod's user gets the runtime directory last: while root writes in it, nobody else can put a
/// link there.
pub(super) fn furnish(
    sandbox: &Sandbox,
    vmi: &VirtualMachineInstance,
    accelerator: Accelerator,
    resolved: &Resolved,
    capabilities: &Path,
) -> anyhow::Result<Spec> {
    let runtime = sandbox.runtime_dir();
    let host = Pod::new(&runtime);
    pod::write_json(&host.vmi(), vmi)?;
    cache::copy(capabilities, &host)?;
    for mount in &resolved.mounts {
        let place = runtime.join(&mount.target);
        make_parent(&place)?;
        fs::File::create(&place).with_context(|| format!("cannot make {}", place.display()))?;
    }
    for secret in &resolved.secrets {
        write_secret(&runtime.join(&secret.target), &secret.data)?;
    }
    let resolv_conf = "resolv.conf";
    let dns = dns::resolv_conf(
        &host_resolv_conf(),
        vmi.spec.dns_policy,
        vmi.spec.dns_config.as_ref(),
    );
    let path = runtime.join(resolv_conf);
    fs::write(&path, dns).with_context(|| format!("cannot write {}", path.display()))?;
    shim::give(&runtime)?;
    let state = sandbox.network_state();
    let state = Path::new(SANDBOX).join(state.file_name().unwrap_or_default());
    let init = [
        "--die-with-parent".to_owned(),
        format!("--accelerator={accelerator}"),
        format!("--interface={PRIMARY}"),
        format!("--network-state={}", state.display()),
        format!("--network-timeout={NETWORK_SECONDS}"),
        format!(
            "--resolv-conf={}",
            Path::new(RUNTIME_DIR).join(resolv_conf).display()
        ),
    ];
    let expected = sandbox.attached.iter().map(expect);
    Ok(Spec {
        sandbox: Some(sandbox.clone()),
        runtime_dir: runtime,
        hostname: hostname(vmi),
        accelerator,
        parent: std::process::id(),
        mounts: resolved.mounts.clone(),
        init: init.into_iter().chain(expected).collect(),
    })
}

/// What CNI said that an interface has, for init to wait for.
fn expect(attached: &Attached) -> String {
    let addresses = cni::addresses(&attached.result).filter_map(cni::host_part);
    let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
    format!("--expect={}={}", attached.device, addresses.join(","))
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

/// Writes a file that only the pod's user may read.
fn write_secret(path: &Path, data: &[u8]) -> anyhow::Result<()> {
    make_parent(path)?;
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(data))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(shim::give(path)?)
}

/// The pod's host name: the guest's.
fn hostname(vmi: &VirtualMachineInstance) -> String {
    let name = vmi
        .spec
        .hostname
        .clone()
        .or_else(|| vmi.metadata.name.clone());
    // A label's length (RFC 1123); the kernel takes 64.
    name.unwrap_or_default().chars().take(63).collect()
}

/// The host's resolver settings: behind a local stub, those that it forwards to.
fn host_resolv_conf() -> String {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let texts = files.map(|file| fs::read_to_string(file).unwrap_or_default());
    let local = |text: &str| text.lines().any(|line| line.starts_with("nameserver 127."));
    let [first, forwarded] = texts;
    if local(&first) && !forwarded.is_empty() {
        forwarded
    } else {
        first
    }
}

/// Images are pulled by a program that shows its own progress.
struct Told;

impl Progress for Told {}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmi(spec: &str) -> String {
        format!(
            "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {{name: a}}\n\
             spec:\n  domain: {{devices: {{}}, memory: {{guest: 64Mi}}}}\n{spec}"
        )
    }

    #[test]
    fn each_wrong_field_is_one_line_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vm.yaml");
        fs::write(
            &path,
            vmi("  volumes: [{name: a, emptyDisk: {capacity: 1x}}]\n"),
        )
        .unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.starts_with(&format!("{}: spec.volumes[0]", path.display())),
            "{error}"
        );
    }

    #[test]
    fn a_binding_needs_both_halves() {
        assert!("a=/b".parse::<Binding>().is_ok());
        for text in ["a", "=b", "a=", ""] {
            assert!(text.parse::<Binding>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_missing_object_names_the_flag() {
        let error = bound(&[], "secret", "keys").unwrap_err().to_string();
        assert!(
            error.ends_with("give it with --secret keys=PATH"),
            "{error}"
        );
    }

    #[test]
    fn a_claim_that_the_vm_may_not_use_is_refused() {
        let cases = [
            (0o600, 0, 0, false, false),
            (0o604, 0, 0, true, false),
            (0o606, 0, 0, true, true),
            (0o640, 0, QEMU_ID, true, false),
            (0o660, 0, QEMU_ID, true, true),
            (0o606, 0, QEMU_ID, false, false),
            (0o400, QEMU_ID, 0, true, false),
            (0o600, QEMU_ID, 0, true, true),
            (0o066, QEMU_ID, QEMU_ID, false, false),
        ];
        for (mode, owner, group, readable, writable) in cases {
            let found = [true, false].map(|read_only| is_allowed(mode, owner, group, read_only));
            assert_eq!(found, [readable, writable], "{mode:o} {owner}:{group}");
        }
    }

    #[test]
    fn a_secret_is_at_most_as_large_as_a_cluster_s() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("userdata");
        fs::write(&path, vec![b'a'; 1 << 20]).unwrap();
        assert_eq!(read_secret(&path).unwrap().len(), 1 << 20);
        fs::write(&path, vec![b'a'; (1 << 20) + 1]).unwrap();
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("userdata is longer than 1 MiB"), "{error}");
    }
}
