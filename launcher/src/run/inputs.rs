//! From a manifest and the command line to what a pod gets: the VMI, files, init's arguments.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use crds::VirtualMachineInstance;
use crds::manifest::{self, Manifest};
use k8s_openapi::api::core::v1::LocalObjectReference;

use super::sandbox::{INTERFACE, Sandbox, write_public};
use super::shim::{Mount, SANDBOX, Spec};
use super::timeline::Timeline;
use super::{RunArgs, cache};
use crate::convert::{Accelerator, KernelBoot};
use crate::images::{Progress, Puller, Store};
use crate::pod::{self, Pod, QEMU_ID, RUNTIME_DIR};
use crate::volumes::{Layout, SecretData, host_disk};

/// A manifest is read whole; nobody writes one this long (bytes).
const LONGEST_MANIFEST: u64 = 4 << 20;

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
    let errors = manifest.validate();
    if !errors.is_empty() {
        let lines: Vec<String> = errors
            .iter()
            .map(|error| format!("{shown}: {error}"))
            .collect();
        bail!("{}", lines.join("\n"));
    }
    let warnings = warnings(&manifest);
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

/// What a cluster would heed and this machine does not: told once, in one line.
fn warnings(manifest: &Manifest) -> Vec<String> {
    let vmi = manifest.clone().into_vmi();
    let spec = &vmi.spec;
    let fields = [
        ("affinity", spec.affinity.is_some()),
        ("nodeSelector", !spec.node_selector.is_empty()),
        ("priorityClassName", spec.priority_class_name.is_some()),
        ("schedulerName", spec.scheduler_name.is_some()),
        ("tolerations", !spec.tolerations.is_empty()),
        (
            "topologySpreadConstraints",
            !spec.topology_spread_constraints.is_empty(),
        ),
    ];
    let given: Vec<&str> = fields
        .iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect();
    if given.is_empty() {
        return vec![];
    }
    vec![format!(
        "there is no scheduler here: {} is ignored",
        given.join(", ")
    )]
}

/// The host's files that a VMI asks for.
pub(super) struct Resolved {
    /// Each with its place below the runtime directory.
    mounts: Vec<Mount>,
}

/// Finds every file that the VMI needs, pulls what has to be pulled, makes what has to be made.
pub(super) fn resolve(
    root: &Path,
    args: &RunArgs,
    vmi: &VirtualMachineInstance,
    timeline: &Timeline,
) -> anyhow::Result<Resolved> {
    let store = Store::new(
        root.join("images"),
        args.images.clone(),
        Some(Puller::default()),
    )
    .with_progress(Told);
    let layout = Layout {
        runtime_dir: RUNTIME_DIR.into(),
    };
    let mut mounts = vec![];
    let mut add = |source: PathBuf, target: PathBuf, read_only: bool| {
        let target = target
            .strip_prefix(RUNTIME_DIR)
            .map(Path::to_owned)
            .unwrap_or(target);
        mounts.push(Mount {
            source,
            target,
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
            add(regular(file)?, layout.claim(name), true);
        }
        for (secret, data) in secrets(volume) {
            let path = secret_file(bound(&args.secrets, "secret", &secret.name)?, data)?;
            let [key, _] = data.keys();
            add(path, layout.secret(name, data).join(key), true);
        }
    }
    let container = vmi.spec.domain.firmware.as_ref().and_then(|firmware| {
        firmware
            .kernel_boot
            .as_ref()
            .and_then(|boot| boot.container.as_ref())
    });
    if let Some(container) = container {
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
    Ok(Resolved { mounts })
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
    found.ok_or_else(|| anyhow!("{} holds no file named {}; make one", path.display(), names.join(" or ")))
}

fn regular(path: &Path) -> anyhow::Result<PathBuf> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !meta.is_file() {
        bail!("{} is no regular file; name one", path.display());
    }
    Ok(path.to_owned())
}

/// Fills the sandbox's directory and writes down what its processes are to do.
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
    write_public(&host.vmi(), &fs::read(host.vmi())?)?;
    cache::copy(capabilities, &host)?;
    for mount in &resolved.mounts {
        let place = runtime.join(&mount.target);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::File::create(&place).with_context(|| format!("cannot make {}", place.display()))?;
    }
    let resolv_conf = "resolv.conf";
    write_public(&runtime.join(resolv_conf), host_resolv_conf().as_bytes())?;
    let state = sandbox.network_state();
    let state = Path::new(SANDBOX).join(state.file_name().unwrap_or_default());
    let init = [
        "--die-with-parent".to_owned(),
        format!("--accelerator={accelerator}"),
        format!("--interface={INTERFACE}"),
        format!("--network-state={}", state.display()),
        format!(
            "--resolv-conf={}",
            Path::new(RUNTIME_DIR).join(resolv_conf).display()
        ),
    ];
    Ok(Spec {
        sandbox: Some(sandbox.clone()),
        runtime_dir: runtime,
        hostname: hostname(vmi),
        accelerator,
        mounts: resolved.mounts.clone(),
        init: init.to_vec(),
    })
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
    fn scheduling_is_ignored_with_one_warning() {
        let text = vmi("  priorityClassName: high\n  nodeSelector: {a: b}\n");
        let warnings = warnings(&manifest::parse(&text).unwrap());
        assert_eq!(
            warnings,
            ["there is no scheduler here: nodeSelector, priorityClassName is ignored"]
        );
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
}
