//! `start`, `stop`, `restart`: what a machine's run strategy allows.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::{done, failed};
use crate::cli::{Global, name};
use crate::out;
use crate::target::{Action, Kind};
use crate::wait::{Goal, Wait, first};

/// Arguments of `start`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl start demo\n  \
    virtctl start demo --paused\n  \
    virtctl start demo --wait --timeout 60")]
pub struct Start {
    /// The VirtualMachine.
    #[arg(value_parser = name)]
    name: String,
    /// Start it paused: its vCPUs stand still until `unpause`.
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `stop`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl stop demo\n  \
    virtctl stop demo --grace-period 10 --wait\n  \
    virtctl stop demo --force")]
pub struct Stop {
    /// The VirtualMachine.
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    grace: Grace,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `restart`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl restart demo --wait\n  \
    virtctl restart demo --force")]
pub struct Restart {
    /// The VirtualMachine.
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    grace: Grace,
    #[command(flatten)]
    common: Common,
}

/// How long the guest has to shut down.
#[derive(Clone, Copy, Debug, Args)]
struct Grace {
    /// Seconds before it is powered off. Default: the machine's own.
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// Power it off at once, or after --grace-period.
    #[arg(long)]
    force: bool,
}

impl Grace {
    fn period(self) -> Option<Duration> {
        let seconds = self.grace_period.or(self.force.then_some(0));
        seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// What all three take.
#[derive(Clone, Copy, Debug, Args)]
struct Common {
    #[command(flatten)]
    wait: Wait,
    /// Only check whether it would be done.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
}

impl Start {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let action = Action::Start {
            paused: self.paused,
        };
        self.common.act(global, &self.name, action).await
    }
}

impl Stop {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let action = Action::Stop {
            grace_period: self.grace.period(),
        };
        self.common.act(global, &self.name, action).await
    }
}

impl Restart {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let action = Action::Restart {
            grace_period: self.grace.period(),
        };
        self.common.act(global, &self.name, action).await
    }
}

impl Common {
    async fn act(self, global: &Global, name: &str, action: Action) -> anyhow::Result<()> {
        let target = global.target(Kind::Vm, None, name).await?;
        if !self.wait.wait {
            let acted = target.act(action, self.dry_run).await;
            acted.with_context(|| failed(target.name(), action))?;
            out!("{}", done(target.name(), action, self.dry_run));
            return Ok(());
        }
        let mut sights = target.follow();
        // A run that was there before the request is not what it leads to.
        let before = first(&mut sights).await?.map(|run| run.id);
        let acted = target.act(action, false).await;
        acted.with_context(|| failed(target.name(), action))?;
        let goal = match action {
            Action::Stop { .. } => Goal::Stopped,
            _ => Goal::Started {
                before,
                paused: matches!(action, Action::Start { paused: true }),
            },
        };
        self.wait.until(&target, sights, &goal).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_is_no_grace_unless_one_is_given() {
        for (grace_period, force, seconds) in [
            (None, false, None),
            (None, true, Some(0)),
            (Some(9), false, Some(9)),
            (Some(9), true, Some(9)),
        ] {
            let grace = Grace {
                grace_period,
                force,
            };
            assert_eq!(grace.period(), seconds.map(Duration::from_secs));
        }
    }
}
