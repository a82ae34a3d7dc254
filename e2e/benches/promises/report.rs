//! Medians, verdicts and the page that shows them.

use std::fmt::Write as _;

/// A median between the bounds of its 95 % interval.
#[derive(Clone, Copy)]
pub(crate) struct Median {
    pub(crate) low: f64,
    pub(crate) middle: f64,
    pub(crate) high: f64,
    /// How many values it is of.
    pub(crate) n: usize,
}

impl Median {
    /// By order statistics: as many of n values lie below their distribution's median as heads
    /// come of n tosses, so two of the sorted values bound it, whatever the distribution.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let reach = 0.98 * (n as f64).sqrt();
        let at = |rank: f64| values[(rank.max(0.0) as usize).min(n - 1)];
        Self {
            low: at(n as f64 / 2.0 - reach),
            middle: (values[(n - 1) / 2] + values[n / 2]) / 2.0,
            high: at(n as f64 / 2.0 + reach),
            n,
        }
    }

    /// The median of the pairs' differences.
    pub(crate) fn of_differences(ours: &[f64], peers: &[f64]) -> Self {
        Self::of(ours.iter().zip(peers).map(|(ours, peer)| ours - peer))
    }

    /// The median of the pairs' ratios, in percent.
    pub(crate) fn of_ratios(ours: &[f64], peers: &[f64]) -> Self {
        Self::of(
            ours.iter()
                .zip(peers)
                .map(|(ours, peer)| 100.0 * ours / peer),
        )
    }

    fn show(&self, unit: &str) -> String {
        let digits = match self.middle.abs() {
            100.0.. => 0,
            10.0.. => 1,
            _ => 2,
        };
        let Self {
            low, middle, high, ..
        } = self;
        format!("{middle:.digits$} {unit} ({low:.digits$} to {high:.digits$})")
    }
}

/// What was promised.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    AtMost(f64),
    AtLeast(f64),
}

/// What a budget is held against.
pub(crate) struct Compared {
    /// "+" for a difference, "ratio" and so on: stands before the figure.
    pub(crate) how: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: Median,
}

/// One promise.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: Median,
    pub(crate) peer: Option<(&'static str, Median)>,
    /// Where absent, the budget is held against our own figure.
    pub(crate) compared: Option<Compared>,
    pub(crate) budget: Option<Budget>,
}

impl Row {
    fn show(&self) -> String {
        let (held, unit) = match &self.compared {
            Some(compared) => (&compared.value, compared.unit),
            None => (&self.ours, self.unit),
        };
        let (budget, verdict) = match self.budget {
            Some(Budget::AtMost(most)) => (format!("at most {most} {unit}"), held.high <= most),
            Some(Budget::AtLeast(least)) => (format!("at least {least} {unit}"), held.low >= least),
            None => ("none".into(), true),
        };
        let verdict = match (self.budget, verdict) {
            (None, _) => "",
            (_, true) => "met",
            (_, false) => "**missed**",
        };
        let peer = self
            .peer
            .as_ref()
            .map(|(name, peer)| format!("{name}: {}", peer.show(self.unit)));
        let compared = self
            .compared
            .as_ref()
            .map(|compared| format!("{} {}", compared.how, compared.value.show(compared.unit)));
        format!(
            "| {} | {budget} | {} | {} | {} | {} | {verdict} |",
            self.what,
            self.ours.show(self.unit),
            peer.unwrap_or_default(),
            compared.unwrap_or_default(),
            held.n,
        )
    }
}

/// The promises that one command measures.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) command: &'static str,
    pub(crate) rows: Vec<Row>,
    /// How it was measured and why a budget is missed; kept beside this program.
    pub(crate) notes: &'static str,
}

impl Section {
    pub(crate) fn show(&self) -> String {
        let mut text = format!("## {}\n\n`{}`\n\n", self.title, self.command);
        text.push_str("| what | budget | ours | peer | compared | n | |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", row.show());
        }
        format!("{text}\n{}\n", self.notes.trim())
    }
}

/// The whole page.
pub(crate) fn page(sections: &[Section]) -> String {
    let mut text = format!(
        "# Benchmarks\n\n\
         Written by `make bench`; do not edit. Measured on {}.\n\n\
         Each figure is a median with its 95 % interval by order statistics (binomial). Ours and its \
         peer are measured in turns, in the same run; \"compared\" is the median of the pairs' \
         differences or ratios, and a budget is met when that interval, as a whole, is within it. \
         Guests are emulated (TCG). Binaries are the release profile's. Each part has a command; \
         `make build guests` comes first, and all of them take root.\n",
        machine()
    );
    for section in sections {
        text.push('\n');
        text.push_str(&section.show());
    }
    text
}

/// What the figures depend on.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read("/proc/meminfo");
    let memory = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<f64>().ok());
    let first_line = |program: &str| {
        let output = std::process::Command::new(program)
            .arg("--version")
            .output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    format!(
        "{} cores of {}, {:.0} GiB, Linux {}, {}, libvirt {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        model.map_or("an unnamed CPU", |(_, model)| model),
        memory.unwrap_or_default() / 1_048_576.0,
        read("/proc/sys/kernel/osrelease").trim(),
        first_line("qemu-system-x86_64"),
        first_line("virsh"),
    )
}
