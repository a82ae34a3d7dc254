//! `pause`, `unpause`, `soft-reboot`, `reset`: what is done with a machine that runs.

use anyhow::Context as _;
use clap::Args;

use super::{Object, done, failed};
use crate::cli::{Global, name};
use crate::out;
use crate::target::{Action, Kind};
use crate::wait::{Goal, Wait};

/// Arguments of `pause`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl pause demo\n  \
    virtctl pause vm demo\n  \
    virtctl pause vmi demo --wait")]
pub struct Pause {
    #[command(flatten)]
    which: Which,
}

/// Arguments of `unpause`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl unpause demo\n  \
    virtctl unpause vmi demo")]
pub struct Unpause {
    #[command(flatten)]
    which: Which,
}

/// Arguments of `soft-reboot`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl soft-reboot demo")]
pub struct SoftReboot {
    /// The VirtualMachineInstance; its machine has the same name.
    #[arg(value_parser = name)]
    name: String,
}

/// Arguments of `reset`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl reset demo")]
pub struct Reset {
    /// The VirtualMachineInstance; its machine has the same name.
    #[arg(value_parser = name)]
    name: String,
}

/// Whose vCPUs, and whether to wait for them.
#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    object: Object,
    #[command(flatten)]
    wait: Wait,
    /// Only check whether it would be done.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
}

impl Pause {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        self.which.act(global, Action::Pause, &Goal::Paused).await
    }
}

impl Unpause {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let goal = Goal::Unpaused;
        self.which.act(global, Action::Unpause, &goal).await
    }
}

impl SoftReboot {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        at_once(global, &self.name, Action::SoftReboot).await
    }
}

impl Reset {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        at_once(global, &self.name, Action::Reset).await
    }
}

impl Which {
    async fn act(self, global: &Global, action: Action, goal: &Goal) -> anyhow::Result<()> {
        let target = self.object.reference()?.target(global).await?;
        let acted = target.act(action, self.dry_run).await;
        acted.with_context(|| failed(target.name(), action))?;
        if self.wait.wait {
            return Ok(self.wait.until(&target, target.follow(), goal).await?);
        }
        out!("{}", done(target.name(), action, self.dry_run));
        Ok(())
    }
}

async fn at_once(global: &Global, name: &str, action: Action) -> anyhow::Result<()> {
    let target = global.target(Kind::Vmi, None, name).await?;
    let acted = target.act(action, false).await;
    acted.with_context(|| failed(target.name(), action))?;
    out!("{}", done(target.name(), action, false));
    Ok(())
}
