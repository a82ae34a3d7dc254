//! The packet sockets on the tap and on the pod's interface.

#![allow(
    unsafe_code,
    reason = "packet sockets' addresses have no safe constructor"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

use super::filter;
use crate::ipv6::Speaker;
use crate::plan::GuestNetwork;

/// Bytes of unread packets that the kernel keeps for us, or as many as it grants (`net.core.rmem_max`,
/// 208 KiB unless set); it doubles them for its own overhead, and a small packet takes 1280. A worker
/// that is away for a moment finds the guest's last questions there; a flooding guest fills no more
/// than this. A server that is not scheduled for 30 ms, on a node that is busy, then loses nothing
/// of a flood of 10,000 packets a second, and so no client's question among them.
const QUEUE: usize = 256 * 1024;

/// What a [`Server`](super::Server) serves by.
#[derive(Debug)]
pub struct Sockets {
    /// On the tap: what the guest asks.
    pub tap: OwnedFd,
    /// On the pod's interface, where the guest's IPv6 gateway is known by a global address only:
    /// what the gateway answers.
    pub uplink: Option<OwnedFd>,
}

/// Opens the server's sockets, in the calling thread's network namespace. The tap need not be up
/// yet. Needs CAP_NET_RAW.
///
/// # Errors
///
/// No such link, or no permission.
pub fn open(network: &GuestNetwork) -> io::Result<Sockets> {
    let speaker = network.ipv6.as_ref().map(|ipv6| ipv6.router.speaker);
    let uplink = match speaker {
        Some(Speaker::Gateway(_)) => Some(bound(&network.interface, &filter::advertisements())?),
        Some(Speaker::Itself | Speaker::Station(_)) | None => None,
    };
    Ok(Sockets {
        tap: bound(&network.tap, &filter::questions(network.mac))?,
        uplink,
    })
}

/// A packet socket that receives from one link what passes a filter.
fn bound(link: &str, filter: &[SockFilter]) -> io::Result<OwnedFd> {
    // No protocol yet: a socket that is not bound would receive from every link.
    let socket = Socket::new(Domain::PACKET, Type::RAW.cloexec().nonblocking(), None)?;
    socket.set_recv_buffer_size(QUEUE)?;
    // Before the socket is bound, so that nothing unfiltered is ever in its queue.
    socket.attach_filter(filter)?;
    ignore_outgoing(&socket);
    let index = nix::net::if_::if_nametoindex(link)?;
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
