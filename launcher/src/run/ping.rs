//! Whether the guest answers, asked from the host as a user would: ICMP echo (RFC 792).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// How long one question waits for its answer, in microseconds.
const PATIENCE: i64 = 200_000;

const ECHO_REPLY: u8 = 0;
const ECHO: u8 = 8;

/// Asks until the guest answers.
///
/// # Errors
/// Where no ICMP socket can be opened.
pub(super) async fn until_answered(address: Ipv4Addr) -> io::Result<()> {
    for sequence in 0_u16.. {
        let asked = tokio::task::spawn_blocking(move || ask(address, sequence));
        if asked.await.map_err(io::Error::other)?? {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Asks once; tells whether the answer came within [`PATIENCE`].
fn ask(address: Ipv4Addr, sequence: u16) -> io::Result<bool> {
    let socket: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Icmp,
    )?;
    let patience = TimeVal::microseconds(PATIENCE);
    setsockopt(&socket, ReceiveTimeout, &patience)?;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let identifier = [high, low];
    let to = SockaddrIn::from(SocketAddrV4::new(address, 0));
    let until = Instant::now() + Duration::from_micros(PATIENCE.unsigned_abs());
    // The route to the guest may come up a moment later.
    let _ = sendto(
        socket.as_raw_fd(),
        &echo(identifier, sequence),
        &to,
        MsgFlags::empty(),
    );
    let mut packet = [0; 1500];
    while Instant::now() < until {
        match recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Ok(length) if is_reply(&packet[..length], identifier) => return Ok(true),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

fn is_reply(packet: &[u8], identifier: [u8; 2]) -> bool {
    let Some(&first) = packet.first() else {
        return false;
    };
    // The IPv4 header's length, in words of 32 bits (RFC 791, 3.1).
    let header = usize::from(first & 0x0f) * 4;
    packet
        .get(header..header + 8)
        .is_some_and(|icmp| icmp[0] == ECHO_REPLY && icmp[4..6] == identifier)
}

fn echo(identifier: [u8; 2], sequence: u16) -> [u8; 8] {
    let [high, low] = sequence.to_be_bytes();
    let mut packet = [ECHO, 0, 0, 0, identifier[0], identifier[1], high, low];
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

/// The address of `10.0.0.2/24`.
pub(super) fn host_part(address: &str) -> Option<Ipv4Addr> {
    address.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_answers() {
        let asked = until_answered(Ipv4Addr::LOCALHOST);
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

    #[test]
    fn only_replies_to_ours_count() {
        let mut packet = vec![0x45; 20];
        packet.extend([ECHO_REPLY, 0, 0, 0, 1, 2, 0, 0]);
        assert!(is_reply(&packet, [1, 2]));
        assert!(!is_reply(&packet, [1, 3]));
        assert!(!is_reply(&packet[..27], [1, 2]));
        assert!(!is_reply(&[], [1, 2]));
        packet[20] = ECHO;
        assert!(!is_reply(&packet, [1, 2]));
    }

    #[test]
    fn the_checksum_of_a_whole_packet_is_zero() {
        let packet = echo([0xff, 0xfe], 0xfffd);
        let sum = packet.chunks(2).fold(0_u32, |sum, word| {
            sum + u32::from(u16::from_be_bytes([word[0], word[1]]))
        });
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
