//! The serial console at the user's terminal.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use launcher_api::ConsoleBytes;
use launcher_api::launcher_client::LauncherClient;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Ctrl-]: leaves the console.
const ESCAPE: u8 = 0x1d;

/// How a console session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The user pressed Ctrl-], or standard input ended.
    ByUser,
    /// The launcher closed it: the VM ended, or somebody else took the console.
    ByLauncher,
}

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The launcher cannot be reached.
    #[error(transparent)]
    Connect(#[from] launcher_api::ConnectError),
    /// The launcher refused.
    #[error("the launcher gives no console: {}", .0.message())]
    Refused(#[from] tonic::Status),
    /// The terminal.
    #[error("cannot use the terminal")]
    Terminal(#[from] io::Error),
}

/// Joins standard input and output with the launcher's console.
///
/// # Errors
/// [`ConsoleError`]; the terminal is as before in any case.
pub async fn attach(mut client: LauncherClient<Channel>) -> Result<Left, ConsoleError> {
    let (keys, typed) = mpsc::channel(1);
    let mut printed = client
        .console(ReceiverStream::new(typed))
        .await?
        .into_inner();
    let _raw = Raw::enter()?;
    let mut input = keyboard()?;
    let mut output = tokio::io::stdout();
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            bytes = printed.next() => match bytes {
                Some(Ok(ConsoleBytes { data, .. })) => {
                    output.write_all(&data).await?;
                    output.flush().await?;
                }
                Some(Err(_)) | None => return Ok(Left::ByLauncher),
            },
            count = input.read(&mut buffer) => {
                let typed = &buffer[..count?];
                let (before, escaped) = until_escape(typed);
                let sent = keys.send(ConsoleBytes::of(before.to_vec())).await;
                if sent.is_err() {
                    return Ok(Left::ByLauncher);
                }
                if escaped || typed.is_empty() {
                    return Ok(Left::ByUser);
                }
            }
        }
    }
}

/// Standard input through a descriptor of its own: tokio's `Stdin` keeps a read going that
/// would swallow the first key after the console was left.
fn keyboard() -> io::Result<tokio::fs::File> {
    let own = io::stdin().as_fd().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(File::from(own)))
}

fn until_escape(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|&byte| byte == ESCAPE) {
        Some(at) => (&typed[..at], true),
        None => (typed, false),
    }
}

/// The terminal in raw mode; as before once dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> io::Result<Self> {
        let terminal = io::stdin();
        if !terminal.is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSADRAIN, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The terminal may have been closed.
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_before_the_escape_still_goes_to_the_guest() {
        assert_eq!(until_escape(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(until_escape(b"ls\r\x1drest"), (&b"ls\r"[..], true));
        assert_eq!(until_escape(b"\x1d"), (&b""[..], true));
    }
}
