//! Makes a plan's changes in the kernel. Knows no policy.

mod forward;

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    LinkAttribute, LinkInfo,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::{Link, Netlink, link_request, up, without_ipv6_address};
use crate::network::PodNetwork;
use crate::plan::{Binding, GuestNetwork, Step};
use crate::{nft, sysctl, tap};

/// The bit of 01:80:c2:00:00:0e.
const LLDP: u16 = 1 << 0xe;

/// The kernel refused a change.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}{}", remedy(source))]
pub struct ApplyError {
    what: String,
    source: io::Error,
}

/// What helps against the kernel's usual refusals.
fn remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (CAP_NET_ADMIN in the network namespace is needed)",
        Some(libc::ENOENT) => " (is /dev/net/tun there, and nf_tables in the kernel?)",
        Some(libc::EOPNOTSUPP) => " (the kernel lacks it: bridge, tun and nf_tables are needed)",
        Some(libc::EBUSY) => " (another process holds it)",
        _ => "",
    }
}

impl ApplyError {
    fn new(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self { what, source }
    }
}

/// Makes the changes in the calling thread's network namespace, in order. Made again, they change
/// nothing.
///
/// # Errors
///
/// [`ApplyError`] with the change that the kernel refused.
pub fn apply(steps: &[Step]) -> Result<(), ApplyError> {
    let mut netlink = Netlink::open().map_err(ApplyError::new("open a netlink socket"))?;
    steps.iter().try_for_each(|step| make(&mut netlink, step))
}

fn make(netlink: &mut Netlink, step: &Step) -> Result<(), ApplyError> {
    match step {
        Step::BypassIptables(found) => {
            // Read-only inside a container, and then there is no other way: see `Step`.
            sysctl::switch_bridge_netfilter(*found, false);
            Ok(())
        }
        Step::CreateBridge { name, mac, mtu } => {
            let data = InfoData::Bridge(vec![
                InfoBridge::StpState(BridgeStpState::Disabled),
                InfoBridge::MulticastSnooping(false),
                InfoBridge::ForwardDelay(0),
                // What is not to be forwarded goes up to the pod by its port, LLDP with no rule asked.
                InfoBridge::GroupFwdMask(LLDP),
            ]);
            let attributes = vec![
                LinkAttribute::IfName(name.clone()),
                LinkAttribute::Address(mac.0.to_vec()),
                LinkAttribute::Mtu(*mtu),
                LinkAttribute::LinkInfo(vec![
                    LinkInfo::Kind(InfoKind::Bridge),
                    LinkInfo::Data(data),
                ]),
            ];
            netlink
                .change(
                    RouteNetlinkMessage::NewLink(link_request(0, attributes)),
                    NLM_F_CREATE,
                )
                .map_err(ApplyError::new(format!("make the bridge {name}")))
        }
        Step::SilenceIpv6 { link } => {
            let what = format!("keep IPv6 addresses off {link}");
            match set(netlink, link, what, vec![without_ipv6_address()]) {
                // Below IPv6's smallest MTU, 1280 bytes, a link has no IPv6 at all.
                Err(error) if error.source.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
                other => other,
            }
        }
        Step::Filter(filter) => nft::filter::install(filter).map_err(ApplyError::new(format!(
            "make the nftables table bridge {}",
            filter.table
        ))),
        Step::Nat(nat) => nft::nat::install(nat).map_err(ApplyError::new(format!(
            "make the nftables table inet {}",
            nat.table
        ))),
        Step::Address { link, net } => {
            address(netlink, link, *net).map_err(ApplyError::new(format!("give {link} {net}")))
        }
        Step::Forward {
            interface,
            bridge,
            ipv4,
            ipv6,
        } => {
            if *ipv4 {
                forward::ipv4(netlink, interface, bridge)?;
            }
            if *ipv6 {
                forward::ipv6(netlink, bridge)?;
            }
            Ok(())
        }
        Step::CreateTap(options) => {
            let error = || format!("make the tap {}", options.name);
            let present = netlink
                .link(&options.name)
                .map_err(ApplyError::new(error()))?;
            if present.is_some_and(|link| tap::is_as_asked(&link, options)) {
                return Ok(());
            }
            tap::create(options).map_err(ApplyError::new(error()))
        }
        Step::ConfigureTap { name, mac, mtu } => {
            let attributes = vec![
                LinkAttribute::Address(mac.0.to_vec()),
                LinkAttribute::Mtu(*mtu),
            ];
            set(
                netlink,
                name,
                format!("set {name} to MAC {mac}, MTU {mtu}"),
                attributes,
            )
        }
        Step::Up { link } => {
            let named = link_request(0, vec![LinkAttribute::IfName(link.clone())]);
            netlink
                .change(RouteNetlinkMessage::SetLink(up(named)), 0)
                .map_err(ApplyError::new(format!("bring up {link}")))
        }
        Step::Attach { link, bridge } => {
            let what = format!("attach {link} to {bridge}");
            let master = find(netlink, bridge).map_err(ApplyError::new(what.clone()))?;
            set(
                netlink,
                link,
                what,
                vec![LinkAttribute::Controller(master.index)],
            )
        }
        Step::StopLearning { port } => {
            let what = format!("stop address learning on {port}");
            set_port(netlink, port, what, InfoBridgePort::Learning(false))
        }
        Step::Hairpin { port } => {
            let what = format!("turn on hairpin mode of {port}");
            set_port(netlink, port, what, InfoBridgePort::HairpinMode(true))
        }
        Step::PinGuest { mac, port } => {
            let error = || format!("pin {mac} to {port}");
            let port = find(netlink, port).map_err(ApplyError::new(error()))?;
            let mut entry = NeighbourMessage::default();
            entry.header.family = AddressFamily::Bridge;
            entry.header.ifindex = port.index;
            entry.header.state = NeighbourState::Noarp;
            entry.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
            entry.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
            netlink
                .change(
                    RouteNetlinkMessage::NewNeighbour(entry),
                    NLM_F_CREATE | NLM_F_REPLACE,
                )
                .map_err(ApplyError::new(error()))
        }
    }
}

/// Gives a link an address that is valid at once.
fn address(netlink: &mut Netlink, link: &str, net: IpNet) -> io::Result<()> {
    let index = find(netlink, link)?.index;
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.attributes = vec![AddressAttribute::Local(net.addr())];
    message.header.family = match net.addr() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => {
            // The namespace may start links without IPv6 although the pod's interface has it.
            let disabled = sysctl::disable_ipv6(link);
            if sysctl::read(&disabled) == Some(true) {
                sysctl::write(&disabled, false)?;
            }
            // Nobody else on the link could have the address, and the guest is not there yet to
            // be asked.
            message.header.flags |= AddressHeaderFlags::Nodad;
            AddressFamily::Inet6
        }
    };
    netlink.change(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Changes a link that exists.
fn set(
    netlink: &mut Netlink,
    link: &str,
    what: String,
    mut attributes: Vec<LinkAttribute>,
) -> Result<(), ApplyError> {
    attributes.push(LinkAttribute::IfName(link.to_owned()));
    // NEWLINK of a link that exists changes it, and unlike SETLINK it takes a port's settings.
    netlink
        .change(RouteNetlinkMessage::NewLink(link_request(0, attributes)), 0)
        .map_err(ApplyError::new(what))
}

/// Changes a port of a bridge.
fn set_port(
    netlink: &mut Netlink,
    port: &str,
    what: String,
    setting: InfoBridgePort,
) -> Result<(), ApplyError> {
    let info = vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![setting])),
    ];
    set(netlink, port, what, vec![LinkAttribute::LinkInfo(info)])
}

fn find(netlink: &mut Netlink, name: &str) -> io::Result<Link> {
    netlink
        .link(name)?
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Takes back every change of a plan, whichever of them were made. The pod's interface is then as
/// it was found, for none of them touched its name, MAC, addresses or routes, and `found` holds the
/// settings that they changed.
///
/// # Errors
///
/// [`ApplyError`] with the change that the kernel refused.
pub fn revert(guest: &GuestNetwork, found: &PodNetwork) -> Result<(), ApplyError> {
    let mut netlink = Netlink::open().map_err(ApplyError::new("open a netlink socket"))?;
    // The tap first: without its bridge it would be a link of the pod's, for all that the guest sends,
    // and without both there is nothing to filter.
    for (name, kind) in [(&guest.tap, "tun"), (&guest.bridge, "bridge")] {
        let error = || format!("remove {name}");
        let link = netlink.link(name).map_err(ApplyError::new(error()))?;
        let Some(link) = link.filter(|link| link.kind.as_deref() == Some(kind)) else {
            continue;
        };
        netlink
            .change(
                RouteNetlinkMessage::DelLink(link_request(link.index, vec![])),
                0,
            )
            .map_err(ApplyError::new(error()))?;
    }
    let error = |family| {
        ApplyError::new(format!(
            "remove the nftables table {family} {}",
            guest.bridge
        ))
    };
    nft::filter::remove(&guest.bridge).map_err(error("bridge"))?;
    if let Binding::Masquerade(_) = guest.binding {
        forward::revert(&mut netlink, guest, found)?;
        // The last: what is forwarded is translated.
        nft::nat::remove(&guest.bridge).map_err(error("inet"))?;
    }
    if let Some(found) = found.bridge_netfilter {
        let names = netlink
            .link_names()
            .map_err(ApplyError::new("list the interfaces"))?;
        // The namespace's, so of every binding in it: under one that is left it stays off. That one
        // found it off, and leaves it so: no harm, for the namespace has nothing else to bridge.
        if !names.iter().any(|name| name.starts_with("k6t-")) {
            sysctl::switch_bridge_netfilter(found, true);
        }
    }
    Ok(())
}
