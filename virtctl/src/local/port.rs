//! Ports of a guest, dialled from this machine: the pod's network is one of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::stream::{ByteStream, DATAGRAM, Protocol};

/// How long each of the guest's addresses is tried.
const DIAL: Duration = Duration::from_secs(5);

/// A port that does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortError {
    /// CNI gave the pod none.
    #[error(
        "its pod has no address; give its CNI configuration an ipam section, or use the console"
    )]
    NoAddress,
    /// The guest answers that nothing is there.
    #[error("nothing listens on {at}; start the service in the guest, or choose another port")]
    Refused {
        /// The address that answered.
        at: SocketAddr,
    },
    /// Nothing answers, or nothing leads there.
    #[error("{at} does not answer: {source}; look at the guest's network with `virtctl console`")]
    Silent {
        /// The address that was tried last.
        at: SocketAddr,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Opens a port at the first of `addresses` where it is open.
///
/// A guest may hold IPv4 before IPv6, or serve only one of them: so the next is tried whatever the
/// first one says.
pub(super) async fn open(
    addresses: &[IpAddr],
    port: u16,
    protocol: Protocol,
) -> Result<ByteStream, PortError> {
    let mut outcome = Err(PortError::NoAddress);
    for address in addresses {
        let at = SocketAddr::new(*address, port);
        match (dial(at, protocol).await, &outcome) {
            (Ok(stream), _) => return Ok(stream),
            // The first error is told, but that nothing listens is more than that nothing answers.
            (error @ Err(PortError::Refused { .. }), Err(PortError::Silent { .. }))
            | (error, Err(PortError::NoAddress)) => outcome = error,
            _ => {}
        }
    }
    outcome
}

async fn dial(at: SocketAddr, protocol: Protocol) -> Result<ByteStream, PortError> {
    let dialled = async {
        let stream: ByteStream = match protocol {
            Protocol::Tcp => {
                let stream = TcpStream::connect(at).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Protocol::Udp => {
                let any: IpAddr = match at {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(at).await?;
                Box::new(Datagrams(socket))
            }
        };
        Ok(stream)
    };
    let dialled = timeout(DIAL, dialled).await;
    let answer = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    answer.map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::ConnectionRefused => PortError::Refused { at },
        _ => PortError::Silent { at, source },
    })
}

/// A connected socket: each read and each write is one datagram.
struct Datagrams(UdpSocket);

impl AsyncRead for Datagrams {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            match ready!(self.0.poll_recv(cx, buffer)) {
                // An empty datagram is no end.
                Ok(()) if buffer.filled().len() == before => {}
                // Nobody listens yet: as with datagrams that are lost on their way.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                answer => return Poll::Ready(answer),
            }
        }
    }
}

impl AsyncWrite for Datagrams {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let datagram = bytes.get(..DATAGRAM).unwrap_or(bytes);
        match ready!(self.0.poll_send(cx, datagram)) {
            // What is told here is the fate of the one before.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Poll::Ready(Ok(datagram.len()))
            }
            answer => Poll::Ready(answer),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    const LOOPBACK: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];

    #[tokio::test]
    async fn a_port_that_only_one_family_serves_is_found() {
        for own in LOOPBACK {
            let listener = TcpListener::bind((own, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut stream = open(&LOOPBACK, port, Protocol::Tcp).await.unwrap();
            let (mut served, _) = listener.accept().await.unwrap();
            served.write_all(b"hello").await.unwrap();
            let mut said = [0; 5];
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"hello", "{own}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_closed_and_a_pod_without_addresses_are_told() {
        // Nobody listens there, nor can anybody while it is bound.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind((LOOPBACK[0], 0).into()).unwrap();
        let at = silent.local_addr().unwrap();
        let Err(error) = open(&LOOPBACK[..1], at.port(), Protocol::Tcp).await else {
            panic!("it is closed");
        };
        let said = format!("nothing listens on {at};");
        assert!(error.to_string().starts_with(&said), "{error}");
        let other = IpAddr::from([127, 0, 0, 2]);
        let Err(error) = open(&[LOOPBACK[0], other], at.port(), Protocol::Tcp).await else {
            panic!("both are closed");
        };
        assert!(
            error.to_string().starts_with(&said),
            "the first one: {error}"
        );
        let outcome = open(&[], 22, Protocol::Tcp).await;
        assert!(matches!(outcome, Err(PortError::NoAddress)));
    }

    #[tokio::test]
    async fn datagrams_keep_their_bounds_and_an_empty_one_ends_nothing() {
        let guest = UdpSocket::bind((LOOPBACK[0], 0)).await.unwrap();
        let port = guest.local_addr().unwrap().port();
        let mut stream = open(&LOOPBACK[..1], port, Protocol::Udp).await.unwrap();
        let mut buffer = [0; 16];
        for datagram in [&b"one"[..], b"three"] {
            stream.write_all(datagram).await.unwrap();
            let (count, client) = guest.recv_from(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], datagram);
            guest.send_to(b"", client).await.unwrap();
            guest.send_to(datagram, client).await.unwrap();
            let count = stream.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], datagram);
        }
        drop(guest);
        for _ in 0..2 {
            stream.write_all(b"nobody").await.unwrap();
        }
    }
}
