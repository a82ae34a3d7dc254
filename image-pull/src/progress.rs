//! How far a pull has got: a bar on a terminal, else a line for each tenth.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// The progress of one pull, on standard error.
pub(crate) enum Progress {
    /// For people who watch.
    Bar(ProgressBar),
    /// For logs.
    Lines(Mutex<Lines>),
}

/// Bytes fetched and told of.
pub(crate) struct Lines {
    image: String,
    total: u64,
    done: u64,
    tenths: u64,
}

impl Progress {
    /// A pull of so many bytes.
    pub(crate) fn new(image: &str, total: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            let image = image.to_owned();
            return Self::Lines(Mutex::new(Lines {
                image,
                total,
                done: 0,
                tenths: 0,
            }));
        }
        const TEMPLATE: &str = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        let style = ProgressStyle::with_template(TEMPLATE);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style.progress_chars("=> "));
        bar.set_message(image.to_owned());
        Self::Bar(bar)
    }

    /// So many bytes more are there.
    pub(crate) fn add(&self, bytes: u64) {
        match self {
            Self::Bar(bar) => bar.inc(bytes),
            Self::Lines(lines) => {
                // A poisoned count is a count still.
                let mut lines = lines.lock().unwrap_or_else(|poison| poison.into_inner());
                lines.add(bytes);
            }
        }
    }

    /// So many bytes must be fetched again.
    pub(crate) fn take_back(&self, bytes: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(bar.position().saturating_sub(bytes)),
            Self::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(|poison| poison.into_inner());
                lines.done = lines.done.saturating_sub(bytes);
            }
        }
    }

    /// All is there.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let tenths = (self.done * 10).checked_div(self.total).unwrap_or(10);
        if tenths > self.tenths {
            self.tenths = tenths;
            let (done, total) = (HumanBytes(self.done), HumanBytes(self.total));
            // Nobody reads it any more: no reason to stop pulling.
            let _ = writeln!(std::io::stderr(), "{}: {done} of {total}", self.image);
        }
    }
}
