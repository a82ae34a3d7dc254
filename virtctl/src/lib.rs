//! virtctl: hands on virtual machines, with KubeVirt's verbs.
//!
//! ```text
//! arguments ─ cli ─▶ command ─▶ Target ─┬─ in a cluster: subresources.kubevirt.io
//!                                       └─ on this machine: the launcher's socket
//! ```
//!
//! Each command is one module of [`commands`]. A failure is one line that names the remedy, and
//! exit status 1; wrong usage is 2.

pub mod cli;
pub mod cluster;
pub mod commands;
pub mod forward;
pub mod input;
pub mod local;
pub mod print;
pub mod pump;
pub mod ssh;
pub mod stream;
pub mod target;
pub mod terminal;
pub mod vnc;
pub mod wait;
pub mod web;

use std::process::ExitCode;

use anyhow::Context as _;

/// What both binaries do.
pub fn main() -> ExitCode {
    let (cli, name) = cli::parse();
    match act(cli) {
        Ok(code) => code,
        Err(error) => {
            // The alternate form has the causes in the same line.
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: cli::Cli) -> anyhow::Result<ExitCode> {
    // kube's TLS asks for it. With one set already, that one is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let result = runtime.block_on(cli.command.run(&cli.global));
    // A read of the keyboard may be under way; it ends with the process.
    runtime.shutdown_background();
    result
}
