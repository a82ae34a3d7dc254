//! What a VM on this machine needs, looked for before anything is made.

use std::path::Path;
use std::process::Command;

use nix::sys::stat::{Mode, umask};
use nix::unistd::Uid;

/// Something is missing; each variant tells what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum PreflightError {
    /// Not root.
    #[error("running a VM takes root (network namespaces, taps): try again with sudo")]
    NotRoot,
    /// No tap devices.
    #[error(
        "there is no {}; load the kernel's tun module (modprobe tun)",
        crate::pod::TUN_DEVICE
    )]
    NoTun,
    /// No emulator.
    #[error("QEMU is not installed (Debian: apt-get install qemu-system-x86)")]
    NoEmulator,
    /// The worker is not beside this program.
    #[error("{0} is not there; it is installed beside virt-launcher")]
    NoWorker(String),
    /// The worker does not start.
    #[error(
        "libvirt is not installed (Debian: apt-get install libvirt0 \
         libvirt-daemon-driver-qemu): {0}"
    )]
    NoLibvirt(String),
}

/// Looks for all that is needed, and sets the umask: the pod's user reads what this process makes,
/// where no path of the host leads it there.
///
/// # Errors
/// [`PreflightError`], the first that is missing.
pub(super) fn check() -> Result<(), PreflightError> {
    if !Uid::effective().is_root() {
        return Err(PreflightError::NotRoot);
    }
    umask(Mode::from_bits_truncate(0o022));
    if !Path::new(crate::pod::TUN_DEVICE).exists() {
        return Err(PreflightError::NoTun);
    }
    crate::host::emulator().ok_or(PreflightError::NoEmulator)?;
    let worker = std::env::current_exe()
        .unwrap_or_default()
        .with_file_name("virt-worker");
    let answer = Command::new(&worker)
        .arg("--version")
        .output()
        .map_err(|_| PreflightError::NoWorker(worker.display().to_string()))?;
    if !answer.status.success() {
        // The dynamic linker's own words name the library.
        let words = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        return Err(PreflightError::NoLibvirt(words));
    }
    Ok(())
}
