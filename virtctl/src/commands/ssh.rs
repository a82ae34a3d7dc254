//! `ssh` and `scp`: the local clients, with a way to the guest.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Args;

use crate::cli::Global;
use crate::ssh::arguments::{Host, Options};
use crate::ssh::{Copy, Destination};
use crate::target::Target;

/// Arguments of `ssh`.
#[derive(Debug, Args)]
#[command(
    long_about = "Log in to a guest with the local ssh.\n\n\
        The guest runs an SSH server; its port is reached through the cluster, so it needs no \
        Service. Keys, configuration and exit status are those of ssh. Its host name is \
        vm.NAME.NAMESPACE or vmi.NAME.NAMESPACE, which ssh's configuration can match.",
    after_help = "Examples:\n  \
        virtctl ssh root@demo\n  \
        virtctl ssh root@vm/demo/lab -i ~/.ssh/lab -- uname -a\n  \
        virtctl ssh root@demo -c 'uptime' -t '-o StrictHostKeyChecking=no'"
)]
pub struct Ssh {
    /// Who logs in and the machine: [USER@]NAME, [USER@]vm/NAME or [USER@]vm/NAME/NAMESPACE.
    #[arg(value_name = "DESTINATION")]
    destination: Destination,
    #[command(flatten)]
    options: Options,
    /// Run this command in the guest instead of a shell.
    #[arg(short, long)]
    command: Option<OsString>,
    /// The same, word by word.
    #[arg(last = true, value_name = "WORD", conflicts_with = "command")]
    words: Vec<OsString>,
}

impl Ssh {
    pub(super) async fn run(mut self, global: &Global) -> anyhow::Result<ExitCode> {
        let host = host(&self.destination, &self.options, global).await?;
        self.words.extend(self.command);
        let user = self.destination.user.as_deref();
        become_client("ssh", &host.ssh(&self.options, user, &self.words))
    }
}

/// Arguments of `scp`.
#[derive(Debug, Args)]
#[command(
    long_about = "Copy files to or from a guest with the local scp, as `virtctl ssh` logs in.\n\n\
        One of the two sides is in the guest: [USER@]NAME:PATH, [USER@]vm/NAME:PATH or \
        [USER@]vm/NAME/NAMESPACE:PATH.",
    after_help = "Examples:\n  \
        virtctl scp disk.img root@demo:/tmp/\n  \
        virtctl scp --recursive root@vm/demo/lab:/var/log ./logs"
)]
pub struct Scp {
    /// What to copy.
    source: String,
    /// Where to.
    target: String,
    #[command(flatten)]
    options: Options,
    /// Copy directories with all that is in them.
    #[arg(short, long)]
    recursive: bool,
    /// Keep times and modes.
    #[arg(long)]
    preserve: bool,
}

impl Scp {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let copy = Copy::parse(&self.source, &self.target)?;
        let host = host(&copy.guest, &self.options, global).await?;
        let arguments = host.scp(&self.options, &copy, self.recursive, self.preserve);
        become_client("scp", &arguments)
    }
}

async fn host(
    destination: &Destination,
    options: &Options,
    global: &Global,
) -> anyhow::Result<Host> {
    anyhow::ensure!(
        options.local_ssh,
        "the local ssh is the only SSH client; leave out --local-ssh=false"
    );
    let target = destination.machine.target(global).await?;
    let local = matches!(target, Target::Local(_));
    let virtctl = std::env::current_exe().context("cannot find virtctl's own file")?;
    let virtctl = virtctl.as_os_str();
    Ok(Host::new(
        target.name(),
        local,
        options.port,
        global,
        virtctl,
    ))
}

/// Goes on as `program`: its exit status, its signals and its terminal are ours.
fn become_client(program: &str, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {program}; install the OpenSSH client"))
}
