//! The signals that ask a process to end.

use std::future::poll_fn;
use std::io;
use std::process::ExitCode;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for a signal that would otherwise end the process on the spot.
#[derive(Debug)]
pub struct Signals(Vec<(u8, Signal)>);

impl Signals {
    /// From now on those signals are noted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
        ]
        .into_iter()
        .map(|kind| Ok((kind.as_raw_value() as u8, signal(kind)?)))
        .collect::<io::Result<_>>()
        .map(Self)
    }

    /// The number of the next signal.
    pub async fn next(&mut self) -> u8 {
        poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The exit status of a process that `signal` ended, as a shell gives it.
pub fn exit_code(signal: u8) -> ExitCode {
    ExitCode::from(128 + signal)
}
