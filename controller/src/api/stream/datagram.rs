//! A guest that is spoken to in datagrams: one message of the client is one of them, and the other
//! way round.

use std::io;
use std::sync::Arc;

use tokio::net::UdpSocket;

use super::frame::OUR_PAYLOAD;
use super::relay::{Outgoing, PIECE, Sink, Source, TooLong};

/// Both halves of a socket that is connected to the guest.
pub(super) fn halves(socket: UdpSocket) -> (DatagramSource, DatagramSink) {
    let socket = Arc::new(socket);
    let sink = DatagramSink {
        socket: socket.clone(),
        message: Vec::new(),
    };
    (DatagramSource(socket), sink)
}

/// The guest's datagrams.
pub(super) struct DatagramSource(Arc<UdpSocket>);

impl Source for DatagramSource {
    async fn next(&mut self, frame: &mut Outgoing) -> io::Result<bool> {
        loop {
            // The room for the longest is taken when there is one.
            self.0.readable().await?;
            match self.0.try_recv(frame.room(OUR_PAYLOAD)) {
                Ok(length) => {
                    frame.fill(length);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_loss(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Nobody listens there at the moment, or nobody leads there: one that was sent before is lost, as
/// datagrams may be (`udp(7)`: such errors are told by the next call).
fn is_loss(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkUnreachable
    )
}

/// The client's messages.
pub(super) struct DatagramSink {
    socket: Arc<UdpSocket>,
    message: Vec<u8>,
}

impl Sink for DatagramSink {
    async fn take(&mut self, part: &[u8], last: bool) -> Result<(), TooLong> {
        if self.message.len() + part.len() > OUR_PAYLOAD {
            return Err(TooLong);
        }
        self.message.extend_from_slice(part);
        if last {
            // Datagrams may be lost.
            let _ = self.socket.send(&self.message).await;
            self.message.clear();
            self.message.shrink_to(PIECE);
        }
        Ok(())
    }

    async fn end(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the numbers of errno(3).
    #[test]
    fn what_loses_a_datagram_ends_no_stream() {
        let cases = [
            ("ECONNREFUSED", 111, true),
            ("EHOSTUNREACH", 113, true),
            ("ENETUNREACH", 101, true),
            ("EIO", 5, false),
            ("EBADF", 9, false),
        ];
        for (name, number, expected) in cases {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(is_loss(&error), expected, "{name}");
        }
    }
}
