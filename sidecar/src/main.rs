//! virt-sidecar: the program in the containers beside a virtual machine.
//!
//! ```text
//!  volumeNAME (the user's image)          compute                     guest-console-log
//!  container-disk ──descriptors──▶ init ─▶ worker ─▶ QEMU ─▶ serial0.log ──▶ console-log
//!        ▲                           │ locks                                     ▲
//!        └───────────────────────── init.lock ───────────────────────────────────┘
//! ```
//!
//! A containerDisk's image has no program of ours, and may have none at all; so this one is linked
//! statically and mounted into its container from the node. Both roles last as long as init does,
//! which holds its lock for life: a pod whose other containers stayed would never be over.
//!
//! Exit status: 0 where the work is done, 1 where something failed, 2 for wrong arguments.

mod args;
mod changes;
mod console_log;
mod container_disk;
mod files;
mod init;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

use args::Role;

/// Where the kubelet reads a container's last words (`terminationMessagePath`).
const TERMINATION_LOG: &str = "/dev/termination-log";

fn main() -> ExitCode {
    let role = match args::parse(std::env::args_os().skip(1)) {
        Ok(role) => role,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    let done: Result<(), Box<dyn std::error::Error>> = match role {
        Role::ContainerDisk { socket, wanted } => {
            container_disk::run(&socket, &wanted).map_err(Into::into)
        }
        Role::ConsoleLog { file, lock } => {
            console_log::run(&file, &lock, &mut std::io::stdout()).map_err(Into::into)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

/// Says why in a line, on standard error and to the kubelet.
fn complain(error: &dyn std::error::Error) {
    let line = files::line(error);
    eprintln!("virt-sidecar: {line}");
    // There is none outside of a pod.
    if let Ok(mut log) = OpenOptions::new().append(true).open(TERMINATION_LOG) {
        let _ = log.write_all(line.as_bytes());
    }
}
