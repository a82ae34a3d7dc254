//! `console`: the serial console at the user's terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::time::{Instant, sleep};

use crate::cli::Global;
use crate::forward::Reference;
use crate::stream::{ByteStream, Stream};
use crate::target::{OpenError, Target};
use crate::terminal::{Ended, Raw, Signals, relay, signals};

/// A machine that is not ready is looked at again after this long.
const AGAIN: Duration = Duration::from_secs(1);

/// Arguments of `console`.
#[derive(Debug, Args)]
#[command(
    long_about = "Open a machine's serial console.\n\n\
        Every key is the guest's but Ctrl-], which leaves the console. A new session ends the one \
        before it. From a pipe, the input is sent as it is, and the console is left once the guest \
        has been silent for a second after its end.",
    after_help = "Examples:\n  \
        virtctl console demo\n  \
        virtctl console demo --timeout 1\n  \
        printf 'root\\n' | virtctl console demo"
)]
pub struct Console {
    /// The machine: NAME, vm/NAME or vm/NAME/NAMESPACE.
    name: Reference,
    /// How many minutes to wait for the machine to be ready.
    #[arg(long, value_name = "MINUTES", default_value_t = 5)]
    timeout: u32,
}

impl Console {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let target = self.name.target(global).await?;
        let limit = Duration::from_secs(60 * u64::from(self.timeout));
        let console = open(&target, limit).await?;
        let name = &target.name().name;
        // From here on a signal ends the session, and not the process with the terminal as it is.
        let mut signals = Signals::new().context("cannot wait for signals")?;
        // The first words are KubeVirt's, for the sake of scripts that wait for them.
        eprintln!("Successfully connected to {name} console. Press Ctrl+] or Ctrl+5 to leave it.");
        let raw = Raw::enter().context("cannot use the terminal")?;
        let ended = tokio::select! {
            ended = relay(console, tokio::io::stdin(), tokio::io::stdout()) => Ok(ended),
            signal = signals.next() => Err(signal),
        };
        drop(raw);
        if io::stdin().is_terminal() {
            // The guest's cursor is anywhere. The terminal may be gone.
            let _ = writeln!(io::stderr());
        }
        match ended {
            Ok(Ended::Left | Ended::InputEnded) => Ok(ExitCode::SUCCESS),
            Ok(Ended::Closed) => anyhow::bail!(
                "the console of {} was closed: the machine has ended, or somebody else opened its \
                 console; `virtctl console {name}` opens it again",
                target.name()
            ),
            Ok(Ended::Lost(error)) => Err(anyhow::Error::new(error).context(format!(
                "the connection to the console of {} broke; `virtctl console {name}` opens it again",
                target.name()
            ))),
            Ok(Ended::Terminal(error)) => {
                Err(anyhow::Error::new(error).context("cannot use the terminal"))
            }
            Err(signal) => Ok(signals::exit_code(signal)),
        }
    }
}

/// Opens the console, as soon as the machine is ready.
async fn open(target: &Target, limit: Duration) -> Result<ByteStream, OpenError> {
    let until = Instant::now() + limit;
    let mut told = false;
    loop {
        match target.open(Stream::Console).await {
            Err(OpenError::NotReady { name, message }) if Instant::now() + AGAIN < until => {
                if !told {
                    eprintln!("{name} is not ready ({message}); waiting");
                    told = true;
                }
                sleep(AGAIN).await;
            }
            result => return result,
        }
    }
}
