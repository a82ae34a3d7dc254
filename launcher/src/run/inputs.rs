//! From a manifest and the command line to what a pod gets: the VMI, files, init's arguments.

mod cluster;
mod dns;
mod objects;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use crds::VirtualMachineInstance;
use crds::manifest;

pub use objects::Binding;

use objects::{Secret, bound, claim_file, copies, objects, read_secret, secret_file, secrets};

use super::sandbox::{Attached, Sandbox};
use super::shim::{self, Mount, SANDBOX, Spec};
use super::timeline::Timeline;
use super::{RunArgs, cache, cni};
use crate::convert::{Accelerator, KernelBoot};
use crate::images::{Progress, Puller, Store};
use crate::network::PRIMARY;
use crate::pod::{self, Pod, QEMU_ID, RUNTIME_DIR};
use crate::volumes::{Layout, host_disk};

/// A manifest is read whole; nobody writes one this long (bytes).
const LONGEST_MANIFEST: u64 = 4 << 20;

/// How long what CNI said may take to be so, in seconds: duplicate address detection takes one or
/// two.
const NETWORK_SECONDS: u32 = 10;

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
        for (kind, bindings, object) in objects(volume, args) {
            let directory = bound(bindings, kind, object)?;
            secret_data.extend(copies(directory, &relative(layout.config(name)))?);
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
    for (index, credential) in vmi.spec.access_credentials.iter().enumerate() {
        let keys = credential.ssh_public_key.as_ref();
        if let Some(secret) = keys.and_then(|keys| keys.source.secret.as_ref()) {
            let directory = bound(&args.secrets, "secret", &secret.secret_name)?;
            let target = relative(layout.access_credential(index));
            secret_data.extend(copies(directory, &target)?);
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
}
