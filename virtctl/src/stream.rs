//! Streams to a machine: what can be opened, and the bytes that flow.

use std::fmt;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};

/// What can be opened at a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The serial console. A new session ends the old one.
    Console,
    /// The screen, as the VNC server speaks.
    Vnc {
        /// Leave a session that is open alone: [`OpenError::InUse`](crate::target::OpenError::InUse).
        preserve_session: bool,
    },
    /// A port of the guest.
    Port {
        /// The port.
        port: u16,
        /// TCP or UDP; of UDP, each read and each write is one datagram.
        protocol: Protocol,
    },
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// A stream of bytes.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The text names no protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no protocol; write tcp or udp")]
pub struct ParseProtocolError(String);

impl FromStr for Protocol {
    type Err = ParseProtocolError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            other => Err(ParseProtocolError(other.to_owned())),
        }
    }
}

/// Bytes both ways.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// An open [`Stream`]: the machine's bytes as they are.
///
/// Nothing is queued beyond one piece a direction: who does not read stops the sender. What was
/// written is on its way only after `flush`. The end of the machine's side is the end of reading,
/// and a break on the way is an error there. `shutdown` tells the other side that nothing more
/// comes; on that it may end the whole session at once.
pub type ByteStream = Box<dyn Bytes>;

/// The most bytes of a stream that one write passes on.
pub const PIECE: usize = 16 << 10;

/// The largest datagram: of UDP, one write is one datagram of at most that many bytes.
pub const DATAGRAM: usize = u16::MAX as usize;

impl Stream {
    /// The most bytes that one write passes on.
    pub fn piece(self) -> usize {
        match self {
            Self::Port {
                protocol: Protocol::Udp,
                ..
            } => DATAGRAM,
            _ => PIECE,
        }
    }
}
