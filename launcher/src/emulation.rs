//! Choosing between KVM and TCG.
//!
//! A `/dev/kvm` that can be opened is no promise: in some sandboxes it is there and a guest
//! hangs on it. So KVM counts as working only where the CPU has VMX or SVM and a tiny 64-bit
//! guest, run in a process of its own with a deadline, comes to its end.

use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::convert::Accelerator;

mod probe;

pub use probe::probe_kvm;

/// How long the tiny guest may take.
const DEADLINE: Duration = Duration::from_secs(1);

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Emulation {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    RequireKvm,
    /// QEMU's own emulation.
    Tcg,
}

/// KVM was required and does not work.
#[derive(Debug, thiserror::Error)]
#[error(
    "KVM does not work here: {cause}; give --emulation tcg to emulate the guest's CPU (slow), or \
     run on a machine with virtualisation enabled"
)]
pub struct NoKvm {
    cause: String,
}

/// Decides what executes the guest, by trying.
///
/// # Errors
/// [`NoKvm`] where KVM is required and does not work.
pub fn choose(wanted: Emulation) -> Result<Accelerator, NoKvm> {
    decide(wanted, kvm_works)
}

fn decide(
    wanted: Emulation,
    kvm_works: impl FnOnce() -> Result<(), String>,
) -> Result<Accelerator, NoKvm> {
    match wanted {
        Emulation::Tcg => Ok(Accelerator::Tcg),
        Emulation::Auto => Ok(kvm_works().map_or(Accelerator::Tcg, |()| Accelerator::Kvm)),
        Emulation::RequireKvm => kvm_works()
            .map(|()| Accelerator::Kvm)
            .map_err(|cause| NoKvm { cause }),
    }
}

/// Runs `virt-launcher kvm-probe` and waits for it no longer than [`DEADLINE`].
fn kvm_works() -> Result<(), String> {
    looks_able()?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new(own)
        .arg("kvm-probe")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start the probe: {error}"))?;
    let until = Instant::now() + DEADLINE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => return Err("/dev/kvm refuses to run a guest".into()),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                // One that even SIGKILL does not end is left behind rather than waited for.
                let _ = child.kill();
                std::thread::spawn(move || child.wait());
                return Err("a guest hangs on /dev/kvm".into());
            }
            Err(error) => return Err(format!("cannot wait for the probe: {error}")),
        }
    }
}

/// What can be seen without a guest. On a CPU with neither extension, the tiny guest may well come to
/// its end, and a whole one hang.
fn looks_able() -> Result<(), String> {
    if !std::path::Path::new("/dev/kvm").exists() {
        return Err("there is no /dev/kvm".into());
    }
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_virtualisation(&cpu) {
        return Err("the CPU shows neither VMX nor SVM".into());
    }
    Ok(())
}

fn has_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm")
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

impl FromStr for Accelerator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(format!("{text:?} is neither kvm nor tcg")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_and_what_works_decide() {
        let works = || Ok(());
        let broken = || Err("there is no /dev/kvm".to_owned());
        assert_eq!(decide(Emulation::Auto, works).unwrap(), Accelerator::Kvm);
        assert_eq!(decide(Emulation::Auto, broken).unwrap(), Accelerator::Tcg);
        assert_eq!(
            decide(Emulation::RequireKvm, works).unwrap(),
            Accelerator::Kvm
        );
        assert_eq!(decide(Emulation::Tcg, works).unwrap(), Accelerator::Tcg);
        let error = decide(Emulation::RequireKvm, broken)
            .unwrap_err()
            .to_string();
        assert!(error.contains("there is no /dev/kvm") && error.contains("--emulation tcg"));
    }

    #[test]
    fn the_flags_line_tells_of_virtualisation() {
        assert!(has_virtualisation(
            "model name\t: x\nflags\t\t: fpu vmx sse\n"
        ));
        assert!(has_virtualisation("flags\t\t: svm\n"));
        assert!(!has_virtualisation(
            "flags\t\t: fpu hypervisor\nvmx flags\t: vnmi\n"
        ));
    }
}
