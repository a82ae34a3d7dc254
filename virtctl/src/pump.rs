//! Bytes from one end to another, a piece at a time.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::stream::PIECE;

/// Which end failed.
#[derive(Debug)]
pub enum PumpError {
    /// The end that is read.
    Read(io::Error),
    /// The end that is written.
    Write(io::Error),
}

impl From<PumpError> for io::Error {
    fn from(error: PumpError) -> Self {
        match error {
            PumpError::Read(error) | PumpError::Write(error) => error,
        }
    }
}

/// How many pieces a pump has moved: whether it still does is seen from outside.
#[derive(Debug, Default)]
pub struct Moved(AtomicU64);

impl Moved {
    /// One more.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Passes on what comes until it ends. Each piece is on its way before the next one is read.
///
/// # Errors
/// [`PumpError`].
pub async fn pump(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    moved: &Moved,
) -> Result<(), PumpError> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await.map_err(PumpError::Read)?;
        let Some(piece) = piece.get(..count).filter(|piece| !piece.is_empty()) else {
            return Ok(());
        };
        to.write_all(piece).await.map_err(PumpError::Write)?;
        to.flush().await.map_err(PumpError::Write)?;
        moved.note();
    }
}

/// Lets a pump run on until it ends, which is its result, or has moved nothing for `silence`, or
/// `limit` is over.
pub async fn linger<T>(
    mut pump: Pin<&mut impl Future<Output = T>>,
    moved: &Moved,
    silence: Duration,
    limit: Option<Duration>,
) -> Option<T> {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let before = moved.count();
        let until = Instant::now() + silence;
        let until = end.map_or(until, |end| end.min(until));
        if let Ok(ended) = timeout_at(until, &mut pump).await {
            return Some(ended);
        }
        let silent = moved.count() == before;
        if silent || end.is_some_and(|end| end <= Instant::now()) {
            return None;
        }
    }
}
