//! What `run` tells of a VM's start and end: for people at a terminal, for logs, for programs.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::clock::monotonic_us;

/// How to tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people: live on a terminal, plain lines elsewhere.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The account of one `run`.
pub(super) struct Timeline {
    output: Output,
    /// In microseconds of `CLOCK_MONOTONIC`.
    begun: u64,
    /// What goes on at this moment; only on a terminal.
    spinner: Option<ProgressBar>,
}

impl Timeline {
    pub(super) fn new(output: Output) -> Self {
        let live = output == Output::Text && std::io::stderr().is_terminal();
        Self {
            output,
            begun: monotonic_us(),
            spinner: live.then(spinner),
        }
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.moment(monotonic_us())
    }

    /// The time from the start to what is stamped with `monotonic_us`.
    pub(super) fn moment(&self, monotonic_us: u64) -> Duration {
        Duration::from_micros(monotonic_us.saturating_sub(self.begun))
    }

    /// What is being done; shown only while it lasts.
    pub(super) fn doing(&self, what: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(what.to_owned());
            spinner.enable_steady_tick(Duration::from_millis(100));
        }
    }

    /// One step is done. `kind` is a stable word for programs.
    pub(super) fn done(&self, kind: &str, message: &str) {
        self.at(self.elapsed(), kind, message);
    }

    /// One step was done at `elapsed` after the start.
    pub(super) fn at(&self, elapsed: Duration, kind: &str, message: &str) {
        let line = match self.output {
            Output::Json => {
                let line = json!({
                    "event": kind,
                    "elapsedMs": elapsed.as_micros() as f64 / 1000.0,
                    "message": message,
                });
                // A reader that went away must not end the VM; its signal will.
                let _ = writeln!(std::io::stdout(), "{line}");
                return;
            }
            Output::Text => format!("{:>9.3}s  {kind:<18} {message}", elapsed.as_secs_f64()),
        };
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| say(&line)),
            None => say(&line),
        }
    }

    /// A line for people that is no step.
    pub(super) fn note(&self, message: &str) {
        match (&self.output, &self.spinner) {
            (Output::Json, _) => self.done("note", message),
            (Output::Text, Some(spinner)) => spinner.suspend(|| say(message)),
            (Output::Text, None) => say(message),
        }
    }

    /// Leaves the terminal to the console.
    pub(super) fn pause(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.disable_steady_tick();
            spinner.finish_and_clear();
        }
    }

    /// Takes the terminal back.
    pub(super) fn resume(&mut self) {
        if self.spinner.is_some() {
            self.spinner = Some(spinner());
        }
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.pause();
    }
}

/// One line on standard error. Control characters, which a guest may have put into a message, do
/// not reach the terminal; a reader that went away must not end the VM.
fn say(line: &str) {
    let plain = |c: char| c == '\n' || !c.is_control();
    let line: String = line
        .chars()
        .map(|c| if plain(c) { c } else { '\u{fffd}' })
        .collect();
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("           {spinner} {msg}");
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
