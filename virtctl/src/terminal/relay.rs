//! The bytes between a terminal, or pipes, and a console.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;

use crate::pump::{Moved, PumpError, linger, pump};

/// Ctrl-]: leaves the console. KubeVirt's client and telnet use the same key.
const ESCAPE: u8 = 0x1d;

/// What is typed, or pasted, at once.
const KEYS: usize = 4096;

/// What a guest has not taken yet is kept up to this many bytes; then no more is read.
const UNSENT: usize = 1 << 20;

/// Input that has ended may still be answered: the guest is listened to until it has been silent
/// for this long.
const SILENCE: Duration = Duration::from_secs(1);

/// A guest that is never silent is listened to for this long.
const ANSWER: Duration = Duration::from_secs(10);

/// The machine's side is given this long to take note of a good-bye.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// Ctrl-] was typed.
    Left,
    /// The input ended, and what the guest answered was printed.
    InputEnded,
    /// The machine's side closed the console.
    Closed,
    /// The connection broke.
    Lost(io::Error),
    /// The input cannot be read, or the output cannot be written.
    Terminal(io::Error),
}

/// Joins `input` and `output` with `console` until one of them ends.
pub async fn relay(
    console: impl AsyncRead + AsyncWrite,
    input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Ended {
    let (from_guest, mut to_guest) = split(console);
    let printed = Moved::default();
    let mut screen = pin!(async {
        match pump(from_guest, &mut output, &printed).await {
            Ok(()) => Ended::Closed,
            Err(PumpError::Read(error)) => Ended::Lost(error),
            Err(PumpError::Write(error)) => Ended::Terminal(error),
        }
    });
    // Neither direction waits for the other: a guest that echoes a long paste is read while it is
    // still being written to. The screen is first, as it tells a closed console from a broken one.
    let ended = tokio::select! {
        biased;
        ended = &mut screen => return ended,
        ended = type_in(input, &mut to_guest) => ended,
    };
    if matches!(ended, Ended::InputEnded) {
        // What ends the session meanwhile has ended it after its input.
        let _ = linger(screen, &printed, SILENCE, Some(ANSWER)).await;
    }
    let _ = timeout(FAREWELL, to_guest.shutdown()).await;
    ended
}

/// Passes on what is typed. Where the guest does not take it, more is read all the same: the key
/// that leaves may be among it.
async fn type_in(
    mut input: impl AsyncRead + Unpin,
    guest: &mut (impl AsyncWrite + Unpin),
) -> Ended {
    let mut keys = [0; KEYS];
    let mut unsent = Vec::new();
    let mut flushed = true;
    loop {
        tokio::select! {
            read = input.read(&mut keys), if unsent.len() < UNSENT => {
                let typed = match read {
                    Ok(count) => keys.get(..count).unwrap_or_default(),
                    Err(error) => return Ended::Terminal(error),
                };
                let (before, left) = until_escape(typed);
                unsent.extend_from_slice(before);
                if left {
                    // A guest that takes nothing keeps nobody.
                    let _ = timeout(FAREWELL, send(&unsent, guest)).await;
                    return Ended::Left;
                }
                if typed.is_empty() {
                    return match send(&unsent, guest).await {
                        Ok(()) => Ended::InputEnded,
                        Err(error) => Ended::Lost(error),
                    };
                }
                flushed = false;
            }
            sent = push(&unsent, guest), if !flushed => match sent {
                Ok(0) => flushed = true,
                Ok(count) => drop(unsent.drain(..count)),
                Err(error) => return Ended::Lost(error),
            },
        }
    }
}

/// Writes what can be written of `unsent`, and returns how much that is; where there is nothing,
/// sees to it that what was written is on its way. May be given up and done again.
async fn push(unsent: &[u8], guest: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
    if unsent.is_empty() {
        guest.flush().await?;
        return Ok(0);
    }
    match guest.write(unsent).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

async fn send(unsent: &[u8], guest: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    guest.write_all(unsent).await?;
    guest.flush().await
}

fn until_escape(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|&byte| byte == ESCAPE) {
        Some(at) => (typed.split_at(at).0, true),
        None => (typed, false),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    #[test]
    fn what_was_typed_before_the_escape_still_goes_to_the_guest() {
        assert_eq!(until_escape(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(until_escape(b"ls\r\x1drest"), (&b"ls\r"[..], true));
        assert_eq!(until_escape(b"\x1d"), (&b""[..], true));
    }

    /// Prints what it is told, as a guest's terminal does.
    async fn echo(guest: DuplexStream) {
        let (from, mut to) = split(guest);
        let _ = pump(from, &mut to, &Moved::default()).await;
    }

    // The clock is paused: a machine that is busy is no silent guest.
    #[tokio::test(start_paused = true)]
    async fn a_paste_that_is_echoed_arrives_whole() {
        // Far smaller than the paste: a relay that waited for either direction would hang.
        let (console, guest) = duplex(1024);
        let paste = vec![b'x'; 1 << 20];
        let mut screen = Vec::new();
        let guest = tokio::spawn(echo(guest));
        let ended = relay(console, &paste[..], &mut screen).await;
        assert!(matches!(ended, Ended::InputEnded), "{ended:?}");
        assert_eq!(screen.len(), paste.len());
        guest.await.unwrap();
    }

    #[tokio::test]
    async fn who_leaves_ends_the_session() {
        let (console, mut guest) = duplex(1024);
        let (input, mut keys) = duplex(64);
        keys.write_all(b"exit\r\x1d").await.unwrap();
        let ended = relay(console, input, Vec::new()).await;
        assert!(matches!(ended, Ended::Left), "{ended:?}");
        let mut typed = Vec::new();
        guest.read_to_end(&mut typed).await.unwrap();
        assert_eq!(typed, b"exit\r");
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_takes_nothing_can_be_left() {
        let (console, _guest) = duplex(16);
        let (input, mut keys) = duplex(1 << 20);
        keys.write_all(&[b'x'; 100_000]).await.unwrap();
        keys.write_all(&[ESCAPE]).await.unwrap();
        let ended = relay(console, input, Vec::new()).await;
        assert!(matches!(ended, Ended::Left), "{ended:?}");
    }

    #[tokio::test]
    async fn a_console_that_is_closed_ends_the_session() {
        let (console, mut guest) = duplex(1024);
        let (input, _keys) = duplex(64);
        guest.write_all(b"reboot: Power down").await.unwrap();
        drop(guest);
        let mut screen = Vec::new();
        let ended = relay(console, input, &mut screen).await;
        assert!(matches!(ended, Ended::Closed), "{ended:?}");
        assert_eq!(screen, b"reboot: Power down");
    }

    #[tokio::test(start_paused = true)]
    async fn input_that_ended_is_answered_until_the_guest_is_silent() {
        let (console, mut guest) = duplex(1024);
        let answering = tokio::spawn(async move {
            let mut asked = [0; 5];
            guest.read_exact(&mut asked).await.unwrap();
            for word in ["one ", "two"] {
                tokio::time::sleep(SILENCE * 2 / 3).await;
                guest.write_all(word.as_bytes()).await.unwrap();
            }
            guest
        });
        let mut screen = Vec::new();
        let ended = relay(console, &b"date\r"[..], &mut screen).await;
        assert!(matches!(ended, Ended::InputEnded), "{ended:?}");
        assert_eq!(screen, b"one two");
        answering.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_is_never_silent_is_left_after_its_input() {
        let (console, mut guest) = duplex(1024);
        let chatter = tokio::spawn(async move {
            while guest.write_all(b"tick ").await.is_ok() {
                tokio::time::sleep(SILENCE / 4).await;
            }
        });
        let started = tokio::time::Instant::now();
        let ended = relay(console, &b""[..], Vec::new()).await;
        assert!(matches!(ended, Ended::InputEnded), "{ended:?}");
        assert_eq!(started.elapsed().as_secs(), ANSWER.as_secs());
        chatter.await.unwrap();
    }
}
