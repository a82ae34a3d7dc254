//! The packet socket on the tap.

#![allow(
    unsafe_code,
    reason = "packet sockets' addresses have no safe constructor"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

/// Bytes of unread packets that the kernel keeps for us. A worker that is away for a moment finds
/// the guest's last questions there; a flooding guest fills no more than this.
const QUEUE: usize = 64 * 1024;

/// `skb->pkt_type`, as a classic BPF load (linux/filter.h: `SKF_AD_OFF + SKF_AD_PKTTYPE`).
const PACKET_TYPE: u32 = (-0x1000_i32 + 4).cast_unsigned();
const PACKET_OUTGOING: u32 = 4;

/// Opens the server's socket on a tap, in the calling thread's network namespace. The tap need not
/// be up yet. Needs CAP_NET_RAW.
///
/// # Errors
///
/// No such link, or no permission.
pub fn open(tap: &str) -> io::Result<OwnedFd> {
    // No protocol yet: a socket that is not bound would receive from every link.
    let socket = Socket::new(Domain::PACKET, Type::RAW.cloexec().nonblocking(), None)?;
    socket.set_recv_buffer_size(QUEUE)?;
    // Before the socket is bound, so that nothing unfiltered is ever in its queue.
    socket.attach_filter(&questions())?;
    ignore_outgoing(&socket);
    let index = nix::net::if_::if_nametoindex(tap)?;
    socket.bind(&link_address(index)?)?;
    Ok(socket.into())
}

/// Spares every frame to the guest a copy for a socket that does not want it (packet(7), Linux 4.20).
/// The filter drops such frames as well, so that a kernel that does not know the option loses only
/// time.
fn ignore_outgoing(socket: &Socket) {
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    let on: libc::c_int = 1;
    // SAFETY: the value is one integer, which lives through the call.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

/// Sends one frame without waiting.
pub(super) fn send(socket: RawFd, frame: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length are those of one slice that lives through the call.
    match unsafe {
        libc::send(
            socket,
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
        )
    } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Every protocol on one link. ETH_P_IP would receive nothing from a bridge's port.
fn link_address(index: u32) -> io::Result<SockAddr> {
    // SAFETY: the storage is large enough for and aligned as any socket address, zeroed, and the
    // length is that of the address written to it.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            (*address).sll_ifindex = index.cast_signed();
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}

/// What the guest may ask: ARP, and UDP to port 67 over IPv4. Not what is sent to the guest.
fn questions() -> Vec<SockFilter> {
    let load =
        |size: u32, mode: u32, k| SockFilter::new((libc::BPF_LD | size | mode) as u16, 0, 0, k);
    let equal = |k, yes, no| {
        SockFilter::new(
            (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            yes,
            no,
            k,
        )
    };
    let accept = |k| SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, k);
    let (word, half, byte) = (libc::BPF_W, libc::BPF_H, libc::BPF_B);
    vec![
        /* 0 */ load(word, libc::BPF_ABS, PACKET_TYPE),
        /* 1 */ equal(PACKET_OUTGOING, 11, 0),
        /* 2 */ load(half, libc::BPF_ABS, 12),
        /* 3 */ equal(libc::ETH_P_ARP as u32, 8, 0),
        /* 4 */ equal(libc::ETH_P_IP as u32, 0, 8),
        /* 5 */ load(byte, libc::BPF_ABS, 23),
        /* 6 */ equal(libc::IPPROTO_UDP as u32, 0, 6),
        /* 7: no fragments */ load(half, libc::BPF_ABS, 20),
        /* 8 */
        SockFilter::new(
            (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16,
            4,
            0,
            0x3fff,
        ),
        /* 9: the IP header's length */
        SockFilter::new(
            (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16,
            0,
            0,
            14,
        ),
        /* 10 */ load(half, libc::BPF_IND, 16),
        /* 11 */ equal(67, 0, 1),
        /* 12 */ accept(u32::MAX),
        /* 13 */ accept(0),
    ]
}
