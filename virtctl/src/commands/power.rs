//! `start`, `stop`, `restart`: what a machine's run strategy allows.

use clap::Args;

use crate::cli::Global;
use crate::target::{Action, Kind};

/// Arguments of `start`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl start demo\n  \
    virtctl start demo --paused")]
pub struct Start {
    /// The VirtualMachine.
    name: String,
    /// Start it paused: its vCPUs stand still until `virtctl unpause`.
    #[arg(long)]
    paused: bool,
    /// Only check whether it would be started.
    #[arg(long)]
    dry_run: bool,
}

impl Start {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let target = global.target(Kind::Vm, None, &self.name).await?;
        let action = Action::Start {
            paused: self.paused,
        };
        target.act(action, self.dry_run).await?;
        println!("{} was asked to start", target.name());
        Ok(())
    }
}
