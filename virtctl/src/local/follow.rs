//! What is seen of a machine on this machine: its launcher is asked again and again.

use std::time::Duration;

use futures::StreamExt as _;
use launcher_api::Phase;

use super::Machine;
use crate::target::CallError;
use crate::wait::{Run, Seen, Sights, Stage};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

impl Machine {
    /// What is seen of it.
    pub fn follow(&self) -> Sights<'_> {
        async_stream::try_stream! {
            let mut last: Option<Seen> = None;
            loop {
                let seen = self.look().await?;
                if last.as_ref() != Some(&seen) {
                    yield seen.clone();
                    last = Some(seen);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        .boxed()
    }

    async fn look(&self) -> Result<Seen, CallError> {
        if !self.is_there() {
            return Ok(None);
        }
        match self.status().await {
            Ok(status) => Ok(Some(seen(status.phase()))),
            Err(CallError::NotFound { .. }) => Ok(None),
            // A worker that died; the next one answers again.
            Err(CallError::Unavailable { .. }) => Ok(Some(seen(Phase::Unspecified))),
            Err(error) => Err(error),
        }
    }
}

fn seen(phase: Phase) -> Run {
    let (stage, status) = match phase {
        Phase::Unspecified | Phase::Starting => (Stage::Starting, "Starting"),
        Phase::Running => (Stage::Running, "Running"),
        Phase::Paused => (Stage::Paused, "Paused"),
        Phase::ShuttingDown => (Stage::Running, "Shutting down"),
        // `run` is about to end: the machine is gone only then.
        Phase::Succeeded | Phase::Failed => (Stage::Ended, "Ended"),
    };
    Run {
        // There is no second run of it.
        id: String::new(),
        stage,
        status: status.to_owned(),
    }
}
