//! Waiting until a machine is as a command wants it, and showing how far it is.
//!
//! ```text
//! Target::follow ─▶ what is seen of the machine, again at each change ─▶ Goal::judge ─▶ done
//!                                                                         or what to wait for
//! ```

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use indicatif::{ProgressBar, ProgressStyle};

use crate::out;
use crate::target::{CallError, Target};

/// What is seen of a machine at one moment: its run, or that there is none.
pub type Seen = Option<Run>;

/// What [`Target::follow`] gives: what is seen now, and again at each change.
pub type Sights<'a> = BoxStream<'a, Result<Seen, CallError>>;

/// One run of a machine: from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Tells it from other runs of the machine.
    pub id: String,
    /// Where it is in its life.
    pub stage: Stage,
    /// What it is about, in a word or two for people, such as `Scheduling`.
    pub status: String,
}

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// On its way.
    Starting,
    /// The guest runs.
    Running,
    /// The guest is there and its vCPUs stand still.
    Paused,
    /// It is over, in a good or a bad way.
    Ended,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A run other than `before` is there, and the guest is.
    Started {
        /// The run that does not count.
        before: Option<String>,
        /// Its vCPUs stand still.
        paused: bool,
    },
    /// No run is there, not even one that is over.
    Stopped,
    /// The vCPUs stand still.
    Paused,
    /// The vCPUs run.
    Unpaused,
}

/// How near the goal is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    /// Not yet: what is seen instead.
    Not(String),
    /// It will not be reached: why.
    Never(String),
}

impl Goal {
    /// The goal in a sentence: `{machine} is not yet {goal}`.
    fn word(&self) -> &'static str {
        match self {
            Self::Started { paused: false, .. } => "running",
            Self::Stopped => "stopped",
            Self::Started { paused: true, .. } | Self::Paused => "paused",
            Self::Unpaused => "unpaused",
        }
    }

    fn judge(&self, seen: &Seen) -> Verdict {
        let Some(run) = seen else {
            return match self {
                Self::Started { .. } => Verdict::Not("Stopped".to_owned()),
                Self::Stopped => Verdict::Reached,
                Self::Paused | Self::Unpaused => Verdict::Never("it does not run".to_owned()),
            };
        };
        let not = || Verdict::Not(run.status.clone());
        match (self, run.stage) {
            (Self::Started { before, .. }, _) if before.as_ref() == Some(&run.id) => not(),
            (Self::Started { paused: false, .. }, Stage::Running | Stage::Paused)
            | (Self::Started { paused: true, .. } | Self::Paused, Stage::Paused)
            | (Self::Unpaused, Stage::Running) => Verdict::Reached,
            (Self::Stopped, _) | (_, Stage::Starting | Stage::Running | Stage::Paused) => not(),
            (_, Stage::Ended) => Verdict::Never(format!("it ended: {}", run.status)),
        }
    }
}

/// `--wait` and `--timeout`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Wait {
    /// Return only when it is done.
    #[arg(long)]
    pub wait: bool,
    /// The most seconds that `--wait` waits.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    pub timeout: u64,
}

impl Wait {
    /// Consumes `sights` of `target` until `goal` is reached, and says so.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn until(
        self,
        target: &Target,
        sights: Sights<'_>,
        goal: &Goal,
    ) -> Result<(), WaitError> {
        wait(target, sights, goal, Duration::from_secs(self.timeout)).await?;
        out!("{} is {}", target.name(), goal.word());
        Ok(())
    }
}

/// What is seen first.
///
/// # Errors
/// [`CallError`], where nothing can be seen.
pub async fn first(sights: &mut Sights<'_>) -> Result<Seen, CallError> {
    sights.next().await.unwrap_or(Ok(None))
}

/// The machine is not as it was wanted.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// Time is over.
    #[error(
        "{machine} is not yet {goal} after {seconds} s: {status}; its events say what it waits \
         for, or give it longer with --timeout"
    )]
    Timeout {
        /// The machine.
        machine: String,
        /// What was waited for.
        goal: &'static str,
        /// How long, in seconds.
        seconds: u64,
        /// What is seen of it instead.
        status: String,
    },
    /// It will not be any more.
    #[error("{machine} will not be {goal}: {reason}; its events and its log say more")]
    Never {
        /// The machine.
        machine: String,
        /// What was waited for.
        goal: &'static str,
        /// What came of it instead.
        reason: String,
    },
    /// The machine is lost sight of.
    #[error(transparent)]
    Lost(#[from] CallError),
}

async fn wait(
    target: &Target,
    mut sights: Sights<'_>,
    goal: &Goal,
    timeout: Duration,
) -> Result<(), WaitError> {
    let machine = target.name().to_string();
    let progress = Progress::start(format!("{machine} is not yet {}", goal.word()));
    let mut status = "nothing is seen of it".to_owned();
    let reached = async {
        while let Some(seen) = sights.next().await {
            match goal.judge(&seen?) {
                Verdict::Reached => return Ok(()),
                Verdict::Not(instead) => {
                    progress.show(&instead);
                    status = instead;
                }
                Verdict::Never(reason) => {
                    return Err(WaitError::Never {
                        machine: machine.clone(),
                        goal: goal.word(),
                        reason,
                    });
                }
            }
        }
        // Sights end only with an error.
        Err(WaitError::Never {
            machine: machine.clone(),
            goal: goal.word(),
            reason: "nothing more is heard of it".to_owned(),
        })
    };
    match tokio::time::timeout(timeout, reached).await {
        Ok(result) => result,
        Err(_) => Err(WaitError::Timeout {
            machine: machine.clone(),
            goal: goal.word(),
            seconds: timeout.as_secs(),
            status,
        }),
    }
}

/// A line on standard error that turns while it lasts; nothing where that is no terminal.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn start(what: String) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_prefix(what);
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {prefix} ({elapsed}): {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(Some(bar))
    }

    fn show(&self, status: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(status.to_owned());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, stage: Stage) -> Seen {
        Some(Run {
            id: id.to_owned(),
            stage,
            status: format!("{stage:?}"),
        })
    }

    #[test]
    fn a_goal_is_reached_in_its_own_run() {
        use Stage::{Ended, Paused, Running, Starting};
        let started = |before: Option<&str>| Goal::Started {
            before: before.map(str::to_owned),
            paused: false,
        };
        let start_paused = || Goal::Started {
            before: None,
            paused: true,
        };
        let not = |status: &str| Verdict::Not(status.to_owned());
        let never = |reason: &str| Verdict::Never(reason.to_owned());
        for (goal, seen, verdict) in [
            (started(None), None, not("Stopped")),
            (started(None), run("a", Starting), not("Starting")),
            (started(None), run("a", Running), Verdict::Reached),
            (started(None), run("a", Paused), Verdict::Reached),
            (started(None), run("a", Ended), never("it ended: Ended")),
            (started(Some("a")), run("a", Running), not("Running")),
            (started(Some("a")), run("a", Ended), not("Ended")),
            (started(Some("a")), run("b", Running), Verdict::Reached),
            (start_paused(), run("a", Running), not("Running")),
            (start_paused(), run("a", Paused), Verdict::Reached),
            (Goal::Stopped, None, Verdict::Reached),
            (Goal::Stopped, run("a", Running), not("Running")),
            (Goal::Stopped, run("a", Ended), not("Ended")),
            (Goal::Paused, run("a", Running), not("Running")),
            (Goal::Paused, run("a", Paused), Verdict::Reached),
            (Goal::Paused, None, never("it does not run")),
            (Goal::Unpaused, run("a", Paused), not("Paused")),
            (Goal::Unpaused, run("a", Running), Verdict::Reached),
            (Goal::Unpaused, run("a", Ended), never("it ended: Ended")),
        ] {
            assert_eq!(goal.judge(&seen), verdict, "{goal:?} of {seen:?}");
        }
    }
}
