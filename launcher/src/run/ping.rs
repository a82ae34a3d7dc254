//! Whether the guest answers, asked as a user would: ICMP echo (RFC 792, RFC 4443).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{pending, select_ok};
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv,
    send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::sandbox::netns;

/// How long one question waits for its answer, in microseconds.
const PATIENCE: i64 = 200_000;

/// Asks all of the addresses until one answers: from inside the network namespace `netns`, else from
/// this host. Waits for ever where there is none.
///
/// # Errors
/// Where no ICMP socket can be opened.
pub(super) async fn until_answered(addresses: &[IpAddr], netns: Option<&Path>) -> io::Result<()> {
    if addresses.is_empty() {
        return pending().await;
    }
    let asked = addresses
        .iter()
        .map(|address| Box::pin(one(*address, netns)));
    select_ok(asked).await.map(|((), _)| ())
}

async fn one(address: IpAddr, netns: Option<&Path>) -> io::Result<()> {
    let protocol = Protocol::of(address);
    // A socket stays in the namespace in which it was opened.
    let socket = match netns {
        Some(netns) => netns::enter(netns, move || protocol.open()).map_err(io::Error::other)?,
        None => protocol.open(),
    };
    let socket = Arc::new(socket?);
    for sequence in 0_u16.. {
        let socket = Arc::clone(&socket);
        let asked = move || protocol.ask(&socket, address, sequence);
        let asked = tokio::task::spawn_blocking(asked);
        if asked.await.map_err(io::Error::other)?? {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// ICMP as one IP version has it.
#[derive(Clone, Copy)]
struct Protocol {
    family: AddressFamily,
    number: SockProtocol,
    echo: u8,
    reply: u8,
}

const ICMP: Protocol = Protocol {
    family: AddressFamily::Inet,
    number: SockProtocol::Icmp,
    echo: 8,
    reply: 0,
};

const ICMPV6: Protocol = Protocol {
    family: AddressFamily::Inet6,
    number: SockProtocol::IcmpV6,
    echo: 128,
    reply: 129,
};

impl Protocol {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => ICMP,
            IpAddr::V6(_) => ICMPV6,
        }
    }

    fn open(self) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(self.family, SockType::Raw, flags, self.number)?;
        let patience = TimeVal::microseconds(PATIENCE);
        setsockopt(&socket, ReceiveTimeout, &patience)?;
        Ok(socket)
    }

    /// Asks once; tells whether the answer came within [`PATIENCE`].
    fn ask(self, socket: &OwnedFd, address: IpAddr, sequence: u16) -> io::Result<bool> {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let identifier = [high, low];
        let until = Instant::now() + Duration::from_micros(PATIENCE.unsigned_abs());
        // Connected, it takes answers of this address alone. The route to the guest may come up a
        // moment later.
        let to = SockaddrStorage::from(SocketAddr::new(address, 0));
        let socket = socket.as_raw_fd();
        let asked = connect(socket, &to).and_then(|()| {
            send(
                socket,
                &self.question(identifier, sequence),
                MsgFlags::empty(),
            )
        });
        if asked.is_err() {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            return Ok(false);
        }
        let mut packet = [0; 1500];
        while Instant::now() < until {
            match recv(socket, &mut packet, MsgFlags::empty()) {
                Ok(length) if self.is_reply(&packet[..length], identifier) => return Ok(true),
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                // What the network said of an earlier question: nobody is there yet.
                Err(Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(false)
    }

    fn is_reply(self, packet: &[u8], identifier: [u8; 2]) -> bool {
        let header = match (self.family, packet.first()) {
            // The IPv4 header's length, in words of 32 bits (RFC 791, 3.1).
            (AddressFamily::Inet, Some(first)) => usize::from(first & 0x0f) * 4,
            // The kernel keeps the IPv6 header to itself (RFC 3542, section 3).
            _ => 0,
        };
        packet
            .get(header..header + 8)
            .is_some_and(|icmp| icmp[0] == self.reply && icmp[4..6] == identifier)
    }

    /// The packet, with its checksum. That of ICMPv6 the kernel puts over it (RFC 3542, 3.1).
    fn question(self, identifier: [u8; 2], sequence: u16) -> [u8; 8] {
        let [high, low] = sequence.to_be_bytes();
        let mut packet = [self.echo, 0, 0, 0, identifier[0], identifier[1], high, low];
        let sum = packet.chunks(2).fold(0_u32, |sum, word| {
            sum + u32::from(u16::from_be_bytes([word[0], word[1]]))
        });
        // The first fold may carry once more (RFC 1071).
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        let [_, _, high, low] = (!folded).to_be_bytes();
        packet[2..4].copy_from_slice(&[high, low]);
        packet
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[tokio::test]
    async fn loopback_answers() {
        // Nobody has the second one of each case.
        let cases = [
            [Ipv4Addr::LOCALHOST.into(), [192, 0, 2, 1].into()],
            [
                Ipv6Addr::LOCALHOST.into(),
                IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
            ],
        ];
        for addresses in cases {
            let asked = until_answered(&addresses, None);
            match tokio::time::timeout(Duration::from_secs(5), asked)
                .await
                .unwrap()
            {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    println!("skipped: raw sockets need root");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn only_replies_to_ours_count() {
        let mut packet = vec![0x45; 20];
        packet.extend([ICMP.reply, 0, 0, 0, 1, 2, 0, 0]);
        assert!(ICMP.is_reply(&packet, [1, 2]));
        assert!(!ICMP.is_reply(&packet, [1, 3]));
        assert!(!ICMP.is_reply(&packet[..27], [1, 2]));
        assert!(!ICMP.is_reply(&[], [1, 2]));
        packet[20] = ICMP.echo;
        assert!(!ICMP.is_reply(&packet, [1, 2]));

        let reply = [ICMPV6.reply, 0, 0, 0, 1, 2, 0, 0];
        assert!(ICMPV6.is_reply(&reply, [1, 2]));
        assert!(!ICMPV6.is_reply(&reply, [2, 1]));
        assert!(!ICMPV6.is_reply(&reply[..7], [1, 2]));
        assert!(!ICMPV6.is_reply(&[ICMPV6.echo, 0, 0, 0, 1, 2, 0, 0], [1, 2]));
    }

    #[test]
    fn the_checksum_of_a_whole_packet_is_zero() {
        let packet = ICMP.question([0xff, 0xfe], 0xfffd);
        let sum = packet.chunks(2).fold(0_u32, |sum, word| {
            sum + u32::from(u16::from_be_bytes([word[0], word[1]]))
        });
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
