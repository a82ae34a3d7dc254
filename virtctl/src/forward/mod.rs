//! Ports of a guest on this machine.
//!
//! ```text
//! client ─▶ listener ─▶ connection ─ Stream::Port ─▶ guest:port     each connection its own stream
//! client ─▶ socket ──▶ source ────── Stream::Port ─▶ guest:port     each source of datagrams its own
//! stdin, stdout ─────── connection ─ Stream::Port ─▶ guest:port     ssh's ProxyCommand
//! ```

pub mod port;
pub mod reference;
pub mod tcp;
pub mod udp;

use std::io::{self, Write as _};
use std::net::SocketAddr;

pub use port::Forward;
pub use reference::{ParseReferenceError, Reference};

use crate::stream::ByteStream;
use crate::target::OpenError;

/// A stream that is being opened.
pub trait Opening: Future<Output = Result<ByteStream, OpenError>> + Send + 'static {}

impl<T: Future<Output = Result<ByteStream, OpenError>> + Send + 'static> Opening for T {}

/// Says what ended a client's session.
fn tell(client: SocketAddr, error: anyhow::Error) {
    // Others go on where nobody reads it.
    let _ = writeln!(io::stderr(), "{client}: {error:#}");
}
