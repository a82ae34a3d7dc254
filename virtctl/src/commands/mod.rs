//! The commands, one module a verb or family. Each has `Args`, whose `run` is the command.

mod power;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::Global;

/// A command and its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
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
            Self::Start(args) => args.run(global).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
