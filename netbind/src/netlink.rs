//! Small typed calls to the kernel's routing netlink.
//!
//! Blocking, on one socket of the calling thread's network namespace. Each change is exactly one
//! request and one acknowledgement, so a process killed in between leaves one change whole or not
//! at all. There is no asynchronous runtime here: the launcher's init sets up a network in a
//! handful of requests, one after the other, and must stay single-threaded and small.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::mac::Mac;

/// A routing netlink socket.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// The kernel's largest datagram in a dump; one link or route is far smaller.
const DATAGRAM: usize = 32 * 1024;

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: connect(NETLINK_ROUTE)?,
            sequence: 0,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Performs one change and waits for the kernel's acknowledgement.
    pub(crate) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | flags, |_| ())
    }

    /// Asks for every object of a kind, as they all were at one moment.
    pub(crate) fn dump<T>(
        &mut self,
        message: RouteNetlinkMessage,
        mut pick: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        loop {
            let mut found = Vec::new();
            match self.exchange(message.clone(), NLM_F_DUMP, |reply| {
                found.extend(pick(reply));
            }) {
                Ok(()) => return Ok(found),
                // Something changed meanwhile, and objects may be missing, or there twice.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The link of that name; none if there is none.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let mut found = None;
        let asked = self.exchange(RouteNetlinkMessage::GetLink(message), NLM_F_ACK, |reply| {
            if let RouteNetlinkMessage::NewLink(link) = reply {
                found = Some(Link::from(link));
            }
        });
        match asked {
            Ok(()) => Ok(found),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of all links.
    pub(crate) fn link_names(&mut self) -> io::Result<Vec<String>> {
        Ok(self.links()?.into_iter().map(|link| link.name).collect())
    }

    /// All links.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        self.dump(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            |reply| match reply {
                RouteNetlinkMessage::NewLink(link) => Some(Link::from(link)),
                _ => None,
            },
        )
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut receive: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            let mut rest = self.buffer.as_slice();
            while !rest.is_empty() {
                let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                let length = (reply.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if reply.header.sequence_number != self.sequence {
                    continue;
                }
                if reply.header.flags & NLM_F_DUMP_INTR != 0 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                match reply.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(inner) => receive(inner),
                    _ => {}
                }
            }
        }
    }
}

/// Opens a netlink socket of one protocol, bound, and connected to the kernel.
pub(crate) fn connect(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// The kernel's news of links, addresses and routes.
pub(crate) struct Changes {
    socket: Socket,
    buffer: Vec<u8>,
}

/// The multicast groups, as bits of a netlink address (rtnetlink(7)).
const NEWS: [libc::c_int; 5] = [
    libc::RTMGRP_LINK,
    libc::RTMGRP_IPV4_IFADDR,
    libc::RTMGRP_IPV4_ROUTE,
    libc::RTMGRP_IPV6_IFADDR,
    libc::RTMGRP_IPV6_ROUTE,
];

impl Changes {
    /// Takes note of every change from now on, in the calling thread's network namespace.
    pub(crate) fn subscribe() -> io::Result<Self> {
        let groups = NEWS
            .iter()
            .fold(0, |all, group| all | group.cast_unsigned());
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Self {
            socket,
            buffer: Vec::new(),
        })
    }

    /// Waits until something has changed since the last call; whether it did before the deadline.
    pub(crate) fn wait(&mut self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Whole milliseconds, rounded up: never a busy wait for the rest of one.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return self.drain().map(|()| true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what has queued up. What it says does not matter: the next look shows it.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            let received = self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT);
            match received.map_err(|error| (error.raw_os_error(), error)) {
                // More changes than the queue holds are changes as well.
                Ok(_) | Err((Some(libc::ENOBUFS | libc::EINTR), _)) => {}
                Err((Some(libc::EAGAIN), _)) => return Ok(()),
                Err((_, error)) => return Err(error),
            }
        }
    }
}

/// What we need to know of a link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: Option<String>,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) flags: LinkFlags,
    pub(crate) master: Option<u32>,
    pub(crate) info: Vec<LinkInfo>,
    /// `net.ipv4.conf.LINK.forwarding`.
    pub(crate) ipv4_forwarding: bool,
    /// `net.ipv6.conf.LINK.forwarding` and `accept_ra`; none on a link without IPv6.
    pub(crate) ipv6: Option<(bool, u8)>,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            flags: message.header.flags,
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
                LinkAttribute::AfSpecUnspec(families) => link.configure(&families),
                LinkAttribute::LinkInfo(info) => {
                    link.kind = info.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                    link.info = info;
                }
                _ => {}
            }
        }
        link
    }
}

impl Link {
    fn configure(&mut self, families: &[AfSpecUnspec]) {
        for family in families {
            match family {
                AfSpecUnspec::Inet(settings) => {
                    self.ipv4_forwarding = settings.iter().any(
                        |setting| matches!(setting, AfSpecInet::DevConf(c) if c.forwarding != 0),
                    );
                }
                AfSpecUnspec::Inet6(settings) => {
                    self.ipv6 = settings.iter().find_map(|setting| match setting {
                        AfSpecInet6::DevConf(c) => {
                            Some((c.forwarding != 0, c.accept_ra.try_into().ok()?))
                        }
                        _ => None,
                    });
                }
                _ => {}
            }
        }
    }
}

/// A request about the link with that index; 0 for the link that the attributes name.
pub(crate) fn link_request(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

/// Brings a link up as part of the request.
pub(crate) fn up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message
}

/// Keeps the kernel from giving a link an IPv6 address of its own: plumbing must be silent, and a
/// container cannot write `disable_ipv6` because its /proc/sys is read-only.
pub(crate) fn without_ipv6_address() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}
