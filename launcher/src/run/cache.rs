//! libvirt's capability cache: QEMU is probed once a machine, not once a VM.
//!
//! The probe runs in a sandbox of its own that no guest ever touches, and each VM gets a copy:
//! a guest that took its launcher over could poison a cache that it shares.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::utsname::uname;

use super::sandbox;
use super::shim::{self, Spec};
use crate::convert::Accelerator;
use crate::pod::{self, Pod};

/// Where libvirt's QEMU driver may be; its age is part of libvirt's key.
const DRIVERS: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
    "/usr/lib64/libvirt/connection-driver/libvirt_driver_qemu.so",
];

/// Where QEMU's modules may be: what it can do changes with them.
const MODULES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/qemu", "/usr/lib64/qemu-kvm"];

/// What the name of a probe's directory begins with.
const SCRATCH: &str = ".probe-";

/// No probe takes this long: its directory was left by one that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The directory of cached answers for this machine as it is; made where it is missing.
///
/// Beside libvirt's own file it has, in libvirt's words, what domains may have
/// (`domain-capabilities.xml`) and the host's CPU with every feature (`host-cpu.xml`).
///
/// # Errors
/// Where the directory cannot be kept, or QEMU cannot be probed.
pub fn capabilities(root: &Path, accelerator: Accelerator) -> anyhow::Result<PathBuf> {
    let cache = root.join("capabilities").join(key(accelerator));
    if !cache.exists() {
        fill(root, &cache, accelerator)?;
    }
    Ok(cache)
}

/// What libvirt's own key is made of: when it changes, the old answers are void.
/// <https://libvirt.org/formatcaps.html>
fn key(accelerator: Accelerator) -> String {
    let age = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.ctime());
    let latest = |paths: &[&str]| paths.iter().map(|path| age(Path::new(path))).max();
    let emulator = crate::host::emulator().unwrap_or_default();
    let kernel = uname()
        .map(|u| u.release().to_os_string())
        .unwrap_or_default();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let microcode = cpu.lines().find(|line| line.starts_with("microcode"));
    let parts = format!(
        "{} {} {:?} {:?} {kernel:?} {microcode:?} {accelerator}",
        emulator.display(),
        age(&emulator),
        latest(&DRIVERS),
        latest(&MODULES),
    );
    sandbox::digest(&parts, 8)
}

fn fill(root: &Path, cache: &Path, accelerator: Accelerator) -> anyhow::Result<()> {
    let parent = cache.parent().unwrap_or(root);
    sandbox::private_directory(parent)?;
    remove_abandoned(parent);
    // Beside the cache, so that the answer is moved into place as a whole.
    let scratch = tempfile::Builder::new()
        .prefix(SCRATCH)
        .tempdir_in(parent)
        .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
    let runtime_dir = scratch.path().join("runtime");
    fs::create_dir(&runtime_dir)?;
    shim::give(&runtime_dir)?;
    let spec = Spec {
        sandbox: None,
        runtime_dir: runtime_dir.clone(),
        hostname: "probe".into(),
        accelerator,
        parent: std::process::id(),
        mounts: vec![],
        init: [
            "--probe",
            "--die-with-parent",
            "--accelerator",
            &accelerator.to_string(),
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    let path = scratch.path().join("spec.json");
    pod::write_json(&path, &spec)?;
    let output = Command::new(std::env::current_exe()?)
        .args(["sandbox", "--spec"])
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .context("cannot start the probe")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().last();
        let last = last.map(|line| line.trim_start_matches("virt-worker: "));
        bail!("{}", last.unwrap_or("the probe ended without a word"));
    }
    let made = Pod::new(&runtime_dir).capabilities();
    match fs::rename(&made, cache) {
        // Another `run` was quicker.
        Err(_) if cache.exists() => Ok(()),
        other => other.with_context(|| format!("cannot keep {}", made.display())),
    }
}

/// Removes what probes left that were killed.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified());
        let age = age.ok().and_then(|then| then.elapsed().ok());
        if entry.file_name().to_string_lossy().starts_with(SCRATCH)
            && age.is_some_and(|age| age > ABANDONED)
        {
            // The next one tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Gives a pod its copy, in a directory that its user cannot get to yet.
pub(super) fn copy(cache: &Path, pod: &Pod) -> anyhow::Result<()> {
    let target = pod.capabilities();
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    for entry in fs::read_dir(cache).with_context(|| format!("cannot list {}", cache.display()))? {
        let source = entry?.path();
        let copy = target.join(source.file_name().unwrap_or_default());
        fs::copy(&source, &copy).with_context(|| format!("cannot copy {}", source.display()))?;
    }
    for entry in fs::read_dir(&target)?.flatten() {
        shim::give(&entry.path())?;
    }
    // libvirt wants to own its root.
    for path in target
        .ancestors()
        .take_while(|path| path.starts_with(pod.libvirt_root()))
    {
        shim::give(path)?;
    }
    Ok(())
}
