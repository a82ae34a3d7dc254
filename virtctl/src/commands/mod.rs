//! The commands, one module a verb or family. Each has `Args`, whose `run` is the command.

mod completion;
mod console;
mod create;
mod dumpxml;
mod expand;
mod expose;
mod guest;
mod object;
mod pause;
mod port_forward;
mod power;
mod ps;
mod run;
mod ssh;
mod version;
mod vnc;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::Global;
use crate::target::{Action, Name};
use object::Object;

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
    /// Shut a machine down.
    Stop(power::Stop),
    /// Shut a machine down and start it again.
    Restart(power::Restart),
    /// Stop a machine's vCPUs.
    Pause(pause::Pause),
    /// Let a paused machine run on.
    Unpause(pause::Unpause),
    /// Ask the guest to reboot.
    SoftReboot(pause::SoftReboot),
    /// Press a machine's reset button: the guest reboots without shutting down.
    Reset(pause::Reset),
    /// Print a manifest.
    Create(create::Create),
    /// Make a Service that leads to a machine.
    Expose(expose::Expose),
    /// What the guest's agent tells of its system.
    #[command(name = "guestosinfo")]
    GuestOsInfo(guest::GuestOsInfo),
    /// Who is logged in to the guest, as its agent tells.
    #[command(name = "userlist")]
    UserList(guest::UserList),
    /// The guest's file systems, as its agent tells.
    #[command(name = "fslist")]
    FsList(guest::FsList),
    /// Run a machine on this machine, with no cluster.
    Run(run::Run),
    /// List the machines on this machine.
    Ps(ps::Ps),
    /// Print the libvirt domain of a machine on this machine.
    #[command(name = "dumpxml")]
    DumpXml(dumpxml::DumpXml),
    /// Print a VirtualMachine with all that it refers to written out.
    Expand(expand::Expand),
    /// Print the versions of virtctl and of what serves the cluster.
    Version(version::Version),
    /// Print the script by which a shell completes virtctl's command lines.
    Completion(completion::Completion),
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
            Self::Stop(args) => args.run(global).await?,
            Self::Restart(args) => args.run(global).await?,
            Self::Pause(args) => args.run(global).await?,
            Self::Unpause(args) => args.run(global).await?,
            Self::SoftReboot(args) => args.run(global).await?,
            Self::Reset(args) => args.run(global).await?,
            Self::Create(args) => args.run(global)?,
            Self::Expose(args) => args.run(global).await?,
            Self::GuestOsInfo(args) => args.run(global).await?,
            Self::UserList(args) => args.run(global).await?,
            Self::FsList(args) => args.run(global).await?,
            Self::Run(args) => args.run(global)?,
            Self::Ps(args) => args.run(global).await?,
            Self::DumpXml(args) => args.run(global).await?,
            Self::Expand(args) => args.run(global).await?,
            Self::Version(args) => args.run(global).await?,
            Self::Completion(args) => args.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is told of an action that was accepted.
fn done(name: &Name, action: Action, dry_run: bool) -> String {
    let verb = action.verb();
    if dry_run {
        format!("{name} would be asked to {verb}")
    } else {
        format!("{name} was asked to {verb}")
    }
}

/// What is told of an action that was not.
fn failed(name: &Name, action: Action) -> String {
    format!("cannot {} {name}", action.verb())
}
