//! `virt-launcher probe`: what the kubelet runs beside the launcher to learn of the guest (the VMI's
//! `guestAgentPing` and `exec` probes).
//!
//! ```text
//! kubelet ─exec─▶ virt-launcher probe ─launcher.sock─▶ worker ─▶ the guest's agent
//!                 root ──▶ uid 107
//! ```
//!
//! The kubelet executes it as it does init, as root and with all that set-up takes, while the guest
//! runs, which may have taken its worker over: nothing is read from there before that is given up.

use std::path::PathBuf;
use std::time::Duration;

use launcher_api::{GuestExecRequest, GuestPingRequest, LauncherSocket};

use crate::init::{PrivilegeError, drop_all};
use crate::pod::{self, QEMU_ID};

/// The longest part of what a command said that is shown, in characters.
const SAID: usize = 200;

/// What `probe` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ProbeArgs {
    /// Ask whether the guest's agent answers.
    #[arg(long, required_unless_present = "exec", conflicts_with = "exec")]
    pub ping: bool,
    /// Have the guest's agent run COMMAND: its exit status decides.
    #[arg(long, requires = "command")]
    pub exec: bool,
    /// The program in the guest, and its arguments.
    #[arg(requires = "exec", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// How long all of it may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub timeout: u32,
    /// The pod's runtime directory.
    #[arg(long, value_name = "DIR", default_value = pod::RUNTIME_DIR)]
    pub runtime_dir: PathBuf,
}

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no worker at this moment.
    #[error(transparent)]
    Connect(#[from] launcher_api::ConnectError),
    /// What the kubelet gave could not be given up.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The guest's agent did not do it.
    #[error("{}", .0.message())]
    Refused(#[from] tonic::Status),
    /// The command ended, and not well.
    #[error("{program} ended with status {status}{said}")]
    Status {
        /// The program in the guest.
        program: String,
        /// Its exit status.
        status: i32,
        /// What it said, where it did.
        said: String,
    },
    /// Nothing came in time.
    #[error("no answer within {0} s")]
    TimedOut(u32),
}

/// Finds the worker's socket, which in a local VM lies where only root may go, and gives up root and
/// every capability. Called while this process has one thread: capabilities are a thread's.
///
/// # Errors
/// [`ProbeError::Connect`] or [`ProbeError::Privileges`].
pub fn approach(args: &ProbeArgs) -> Result<LauncherSocket, ProbeError> {
    let socket = LauncherSocket::find(&args.runtime_dir)?;
    drop_all(QEMU_ID, false)?;
    Ok(socket)
}

/// Asks once.
///
/// # Errors
/// [`ProbeError`]: the probe has failed.
pub async fn probe(socket: LauncherSocket, args: &ProbeArgs) -> Result<(), ProbeError> {
    let limit = Duration::from_secs(args.timeout.into());
    let asked = tokio::time::timeout(limit, ask(socket, args)).await;
    asked.map_err(|_| ProbeError::TimedOut(args.timeout))?
}

async fn ask(socket: LauncherSocket, args: &ProbeArgs) -> Result<(), ProbeError> {
    let mut client = socket.connect().await?;
    let Some(program) = args.command.first() else {
        client.guest_ping(GuestPingRequest {}).await?;
        return Ok(());
    };
    let request = GuestExecRequest {
        command: args.command.clone(),
        timeout_seconds: args.timeout,
    };
    let reply = client.guest_exec(request).await?.into_inner();
    if reply.exit_code == 0 {
        return Ok(());
    }
    Err(ProbeError::Status {
        program: program.clone(),
        status: reply.exit_code,
        said: last_line(&reply.stderr)
            .or_else(|| last_line(&reply.stdout))
            .map_or_else(String::new, |line| format!(": {line}")),
    })
}

/// The end of what the guest printed, without what a terminal would obey.
fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    let shown = line.trim().chars().filter(|shown| !shown.is_control());
    Some(shown.take(SAID).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ProbeArgs,
    }

    #[test]
    fn a_probe_is_a_ping_or_a_command() {
        /// The command; a ping has none.
        type Parsed<'a> = Option<&'a [&'a str]>;
        let cases: [(&[&str], Parsed<'_>); 7] = [
            (&["--ping"], Some(&[])),
            (&["--timeout", "3", "--ping"], Some(&[])),
            (
                &["--timeout", "3", "--exec", "--", "cat", "-n", "/x"],
                Some(&["cat", "-n", "/x"]),
            ),
            (&["--exec", "true"], Some(&["true"])),
            (&[], None),
            (&["--exec"], None),
            (&["--ping", "--exec", "true"], None),
        ];
        for (given, expected) in cases {
            let parsed = Cli::try_parse_from([&["probe"], given].concat());
            let parsed = parsed.ok().map(|cli| cli.args);
            if let Some(args) = &parsed {
                assert_eq!(args.ping, args.command.is_empty(), "{given:?}");
            }
            let command = parsed.as_ref().map(|args| {
                let command = args.command.iter().map(String::as_str);
                command.collect::<Vec<_>>()
            });
            assert_eq!(command.as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn what_a_guest_said_is_one_clean_line() {
        let cases: [(&[u8], Option<&str>); 4] = [
            (b"", None),
            (b"\n \n", None),
            (
                b"first\nno such \x1b[31mfile\r\n\n",
                Some("no such [31mfile"),
            ),
            (b"\xff", Some("\u{fffd}")),
        ];
        for (text, expected) in cases {
            assert_eq!(last_line(text).as_deref(), expected, "{text:?}");
        }
    }
}
