//! libvirt's capability cache: QEMU is probed once a machine, not once a VM.
//!
//! The probe runs in a sandbox of its own that no guest ever touches, and each VM gets a copy:
//! a guest that took its launcher over could poison a cache that it shares.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use nix::sys::utsname::uname;
use sha2::{Digest, Sha256};

use super::shim::{self, Spec};
use crate::convert::Accelerator;
use crate::pod::{self, Pod, QEMU_ID};

/// Where libvirt's QEMU driver may be; its age is part of libvirt's key.
const DRIVERS: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
    "/usr/lib64/libvirt/connection-driver/libvirt_driver_qemu.so",
];

/// The directory of cached answers for this machine as it is; made where it is missing.
pub(super) fn capabilities(root: &Path, accelerator: Accelerator) -> anyhow::Result<PathBuf> {
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
    let emulator = crate::host::emulator().unwrap_or_default();
    let driver = DRIVERS.iter().map(|path| age(Path::new(path))).max();
    let kernel = uname()
        .map(|u| u.release().to_os_string())
        .unwrap_or_default();
    let parts = format!(
        "{} {} {driver:?} {kernel:?} {accelerator}",
        emulator.display(),
        age(&emulator)
    );
    Sha256::digest(parts)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn fill(root: &Path, cache: &Path, accelerator: Accelerator) -> anyhow::Result<()> {
    let parent = cache.parent().unwrap_or(root);
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Beside the cache, so that the answer is moved into place as a whole.
    let scratch = tempfile::Builder::new()
        .prefix(".probe-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
    let runtime_dir = scratch.path().join("runtime");
    fs::create_dir(&runtime_dir)?;
    // The pod's user must get to its directory.
    fs::set_permissions(
        scratch.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    shim::give(&runtime_dir)?;
    let spec = Spec {
        sandbox: None,
        runtime_dir: runtime_dir.clone(),
        hostname: "probe".into(),
        accelerator,
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

/// Gives a pod its copy.
pub(super) fn copy(cache: &Path, pod: &Pod) -> anyhow::Result<()> {
    let target = pod.capabilities();
    fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    for entry in fs::read_dir(cache).with_context(|| format!("cannot list {}", cache.display()))? {
        let source = entry?.path();
        let copy = target.join(source.file_name().unwrap_or_default());
        fs::copy(&source, &copy).with_context(|| format!("cannot copy {}", source.display()))?;
    }
    // libvirt wants to own its root.
    for path in target
        .ancestors()
        .take_while(|path| path.starts_with(pod.libvirt_root()))
    {
        std::os::unix::fs::chown(path, Some(QEMU_ID), Some(QEMU_ID))?;
    }
    for entry in fs::read_dir(&target)?.flatten() {
        shim::give(&entry.path())?;
    }
    Ok(())
}
