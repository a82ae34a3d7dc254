//! The commands, one module a verb or family. Each has `Args`, whose `run` is the command.

mod console;
mod port_forward;
mod power;
mod ssh;
mod vnc;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::Global;

/// A command and its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open a machine's serial console.
    Console(console::Console),
    /// Show a machine's screen.
    Vnc(vnc::Vnc),
    /// Take a picture of a machine's screen.
    Screenshot(vnc::Screenshot),
    /// Forward ports of this machine to a guest.
    PortForward(port_forward::PortForward),
    /// Log in to a guest with ssh.
    Ssh(ssh::Ssh),
    /// Copy files to or from a guest with scp.
    Scp(ssh::Scp),
    /// Start a machine.
    Start(power::Start),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// One line that names the remedy.
    pub async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self {
            Self::Console(args) => return args.run(global).await,
            Self::Vnc(args) => return args.run(global).await,
            Self::Screenshot(args) => return args.run(global).await,
            Self::PortForward(args) => return args.run(global).await,
            Self::Ssh(args) => return args.run(global).await,
            Self::Scp(args) => return args.run(global).await,
            Self::Start(args) => args.run(global).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
