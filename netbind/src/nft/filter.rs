//! What may enter a guest's bridge, by which port.
//!
//! In bridge binding, with anti-spoofing, and for a guest with one address of each family:
//!
//! ```text
//! table bridge k6t-eth0 {
//!   set link_local  { type ipv6_addr; size 8; flags dynamic,timeout; timeout 10m }
//!   chain entering  { type filter hook prerouting priority -300
//!                     iifname "tap0" goto guest; iifname "eth0" goto network }
//!   chain local     { type filter hook input priority 0; iifname "eth0" drop; iifname "tap0" drop }
//!   chain network   { ether saddr MAC drop; ether daddr 01:80:c2:00:00:0e drop; meta l4proto tcp accept
//!                     udp dport { 67, 68, 546, 547 } drop; meta l4proto udp accept
//!                     meta protocol { 8021q, 8021ad } drop
//!                     icmpv6 type { 133, 134 } drop; meta protocol { ip, ip6 } goto legible }
//!   chain guest     { meta pkttype multicast ether daddr & ff:ff:ff:ff:ff:d0 == 01:80:c2:00:00:00 drop
//!                     ether saddr MAC ether type ip goto sent_ipv4
//!                     ether saddr MAC ether type ip6 goto sent_ipv6
//!                     ether saddr MAC ether type arp goto sent_arp; drop }
//!   chain sent_ipv4 { ip saddr IPV4 goto content; drop }
//!   chain sent_ipv6 { ip6 saddr IPV6 goto named; ip6 saddr ROUTER drop
//!                     ip6 saddr fe80::/10 update @link_local { ip6 saddr } goto named
//!                     ip6 saddr :: goto unnamed; drop }
//!   chain named     { icmpv6 type { 135, 136 } goto neighbour; goto content }
//!   chain neighbour { frag nexthdr >= 0 drop; icmpv6 type 135 @th,192,16 != 0x0101 drop
//!                     icmpv6 type 136 @th,192,16 != 0x0201 drop; @th,208,48 != MAC drop
//!                     @th,256,8 >= 0 drop; icmpv6 type 136 goto claim; goto content }
//!   chain unnamed   { icmpv6 type 135 goto claim; icmpv6 type { 131, 132, 143 } accept; drop }
//!   chain claim     { @th,64,128 IPV6 accept; @th,64,128 ROUTER drop
//!                     @th,64,128 & ffc0:: == fe80:: update @link_local { @th,64,128 } accept
//!                     drop }
//!   chain sent_arp  { arp saddr ether != MAC drop; arp saddr ip IPV4 accept
//!                     arp saddr ip 0.0.0.0 arp daddr ip IPV4 accept; drop }
//!   chain content   { meta l4proto tcp accept; udp sport >= 548 udp dport >= 548 accept
//!                     udp dport { 67, 68, 546, 547 } drop; udp sport { 67, 547 } drop
//!                     icmpv6 type { 130, 133, 134, 137, 151, 152, 153 } drop; icmp type { 5, 9 } drop
//!                     meta protocol ip igmp type { 18, 22, 23, 34 } accept
//!                     meta l4proto { igmp, pim } drop
//!                     frag frag-off 0 goto first; meta protocol { ip, ip6 } goto legible }
//!   chain first     { @th,0,8 >= 0 accept; drop }
//!   chain legible   { meta l4proto >= 0 accept; frag nexthdr >= 0 accept; drop }
//! }
//! ```
//!
//! A frame of TCP passes after seven comparisons, one of UDP after ten, and to the guest after five or
//! seven: each costs about 10 ns. Everything happens where frames enter: below it our own sockets have
//! seen them, above it the bridge has not learnt from them yet.
//!
//! * `entering` names both ports, for the hook sees every bridge of the namespace.
//! * `link_local` bounds how many link-local addresses a guest has, or claims, at a time: each costs its
//!   neighbours an entry in a table that all pods of a node share.
//! * A message from `::` is about an address that its sender is yet to have (RFC 4862 section
//!   5.4), or an MLD report that goes with it (RFC 3810 section 5.2.13). A probe of ARP is the same
//!   (RFC 5227). Both may ask for the guest's own addresses only: asked for another's, its owner
//!   could give it up.
//! * `neighbour` is where the guest says at which MAC it is found, which must be its own: in the one option
//!   that honest messages have, if any, and not in fragments (RFC 6980).
//! * `content` holds without anti-spoofing as well. `frag frag-off 0` are first fragments: one that
//!   does not tell what is in it could be anything (RFC 7112). Frames with two tags are dropped for
//!   the same reason: hosts take a tag of number 0 for none.
//! * `legible` are packets of which the kernel finds the end of IP's headers. A rule about what follows
//!   matches no others, such as one with a wrong length: a kernel would drop it, but clients of DHCP read
//!   frames. Of a later fragment only IPv6's header of fragments is found if options follow.
//! * What is sent to an address that bridges keep for themselves comes to `entering` if the bridge is to
//!   forward it, else to `local`; passing that, to the pod's IP stack, by the port itself. LLDP's
//!   01:80:c2:00:00:0e skips `local`, so our bridges are to forward it.
//!
//! With anti-spoofing off, `guest` holds the rule of group addresses and one of `01:00:0c:cc:cc:cc` and
//! `:cd`, `meta protocol { 8021q, 8021ad } drop`, and `goto content`. Where the pod has no address to
//! check against, MAC and EtherType are checked, and what a client asks may cross.
//!
//! In masquerade binding the tap is the only port, and turns frames back to the guest (see
//! [`Step::Hairpin`](crate::Step::Hairpin)): those, and none but those, that were translated to it.
//!
//! ```text
//!   chain local     { type filter hook input priority 0; meta pkttype multicast iifname "tap0"
//!                     ether daddr & ff:ff:ff:ff:ff:d0 == 01:80:c2:00:00:00 drop }
//!   chain turned    { type filter hook forward priority 0
//!                     iifname "tap0" oifname "tap0" ip daddr GUEST accept
//!                     iifname "tap0" oifname "tap0" ip6 daddr GUEST accept
//!                     iifname "tap0" oifname "tap0" drop }
//! ```

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::batch::{self, Batch, Family, Hook, Kind, Place, Recent};
use super::expression::{Field, Match, Statement, at_least, is, is_not, masked, noted, one_of};
use super::{ICMP, IGMP, PIM, TCP, UDP, enters, icmpv6, leaves, port, ports, transport};
use crate::plan::{Allowed, Filter};

/// EtherTypes (IEEE).
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];

/// The types of ICMP by which routers tell hosts where to send (RFC 792, RFC 1256).
const ICMP_REDIRECT: u8 = 5;
const ICMP_ROUTER_ADVERTISEMENT: u8 = 9;

/// The types of IGMP by which hosts join and leave groups (RFC 3376 section 4).
const IGMP_REPORT: u8 = 0x12;
const IGMP2_REPORT: u8 = 0x16;
const IGMP2_LEAVE: u8 = 0x17;
const IGMP3_REPORT: u8 = 0x22;

/// Options of neighbour discovery (RFC 4861 section 4.6.1).
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;

/// Addresses that bridges talk to each other by (IEEE 802.1D tables 7-10 and 12-1): of the spanning tree
/// and others that no bridge forwards, ending in 0x00 to 0x0f, and of registration protocols, 0x20 to
/// 0x2f.
const GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];
const GROUP_MASK: [u8; 6] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xd0];
/// That of LLDP (IEEE 802.1AB section 7.1).
const LLDP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];

/// The same of Cisco's, which are 802.3 frames: the spanning trees of VLANs, and those for neighbours.
const CISCO: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc];
const CISCO_MASK: [u8; 6] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];

/// Frames to a group (`PACKET_MULTICAST`), as few of those with data are.
const MULTICAST: u8 = 2;

/// fe80::/10.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
const LINK_LOCAL_MASK: Ipv6Addr = Ipv6Addr::new(0xffc0, 0, 0, 0, 0, 0, 0, 0);

/// Link-local addresses in use.
const STATIONS: Recent = Recent {
    name: "link_local",
    kind: Field::IPV6_FROM.kind,
    length: Field::IPV6_FROM.length,
    // A guest has one an interface; stacks that change theirs do so in hours.
    size: 8,
    timeout: Duration::from_mins(10),
};

/// Makes the table, in the place of one that a killed set-up may have left.
pub(crate) fn install(filter: &Filter) -> io::Result<()> {
    batch::install(Family::Bridge, &filter.table, |batch| fill(batch, filter))
}

/// Removes the table, if there is one.
pub(crate) fn remove(table: &str) -> io::Result<()> {
    batch::remove(Family::Bridge, table)
}

fn fill(batch: &mut Batch<'_>, filter: &Filter) {
    use Statement::{Drop, Goto};
    let hook = |place, priority| Hook {
        kind: Kind::Filter,
        place,
        priority,
    };
    let checked = filter.allowed.as_ref().filter(|_| filter.served);
    if checked.is_some() {
        batch.recent(&STATIONS);
    }
    batch.base_chain("entering", &hook(Place::Prerouting, -300));
    batch.base_chain("local", &hook(Place::Input, 0));
    if let Some(interface) = &filter.interface {
        batch.chains(&["network"]);
        for link in [interface, &filter.tap] {
            batch.rule("local", &[enters(link)], &Drop);
        }
    } else {
        batch.base_chain("turned", &hook(Place::Forward, 0));
        let [multicast, group] = group(GROUP_MASK, GROUP);
        let group = [multicast, enters(&filter.tap), group];
        batch.rule("local", &group, &Drop);
    }
    batch.chains(&["guest"]);
    if checked.is_some() {
        batch.chains(&[
            "sent_ipv4",
            "sent_ipv6",
            "named",
            "neighbour",
            "unnamed",
            "claim",
            "sent_arp",
        ]);
    }
    batch.chains(&["content", "first", "legible"]);

    batch.rule("entering", &[enters(&filter.tap)], &Goto("guest"));
    if let Some(interface) = &filter.interface {
        batch.rule("entering", &[enters(interface)], &Goto("network"));
        network(batch, filter);
    } else {
        turned(batch, filter);
    }
    batch.rule("guest", &group(GROUP_MASK, GROUP), &Drop);
    match (&filter.allowed, checked) {
        (Some(_), Some(allowed)) => {
            guest(batch, filter, ["sent_ipv4", "sent_ipv6", "sent_arp"]);
            ipv4(batch, &allowed.ipv4);
            ipv6(batch, allowed);
            neighbour(batch, filter);
            arp(batch, filter, &allowed.ipv4);
        }
        (Some(_), None) => guest(batch, filter, ["content"; 3]),
        (None, _) => {
            batch.rule("guest", &group(CISCO_MASK, CISCO), &Drop);
            batch.rule("guest", &[one_of(Field::PROTOCOL, TAGS)], &Drop);
            batch.rule("guest", &[], &Goto("content"));
        }
    }
    content(batch, filter.served);
    legible(batch);
}

/// To an address that bridges keep for themselves.
fn group(mask: [u8; 6], value: [u8; 6]) -> [Match; 2] {
    [
        is(Field::PACKET_TYPE, [MULTICAST]),
        masked(Field::MAC_TO, mask, value),
    ]
}

/// Which frames the guest sends at all, and which chains look into them.
fn guest(batch: &mut Batch<'_>, filter: &Filter, chains: [&str; 3]) {
    for (kind, chain) in [IPV4, IPV6, ARP].into_iter().zip(chains) {
        // Two looks: kernels differ in what one across the type shows of a frame with a tag.
        let own = [
            is(Field::MAC_FROM, filter.guest.0),
            is(Field::ETHER_TYPE, kind),
        ];
        batch.rule("guest", &own, &Statement::Goto(chain));
    }
    batch.rule("guest", &[], &Statement::Drop);
}

/// What comes from the pod's network.
fn network(batch: &mut Batch<'_>, filter: &Filter) {
    use Statement::{Accept, Drop, Goto};
    // A hairpin port on the node reflects the guest's own frames.
    let reflected = is(Field::MAC_FROM, filter.guest.0);
    batch.rule("network", &[reflected], &Drop);
    batch.rule("network", &[is(Field::MAC_TO, LLDP)], &Drop);
    if filter.served {
        batch.rule("network", &[transport(TCP)], &Accept);
        batch.rule("network", &[transport(UDP), to(port::DHCP)], &Drop);
        batch.rule("network", &[transport(UDP)], &Accept);
        batch.rule("network", &[one_of(Field::PROTOCOL, TAGS)], &Drop);
        let types = [icmpv6::ROUTER_SOLICITATION, icmpv6::ROUTER_ADVERTISEMENT];
        batch.rule("network", &icmpv6::message(types), &Drop);
        let ip = one_of(Field::PROTOCOL, [IPV4, IPV6]);
        batch.rule("network", &[ip], &Goto("legible"));
    }
}

/// What the tap sends back to the guest.
fn turned(batch: &mut Batch<'_>, filter: &Filter) {
    let back = || vec![enters(&filter.tap), leaves(&filter.tap)];
    if let Some(allowed) = &filter.allowed {
        let ipv4 = allowed.ipv4.iter().map(Ipv4Addr::octets);
        let ipv4 = ipv4.map(|own| [is(Field::PROTOCOL, IPV4), is(Field::IPV4_TO, own)]);
        let ipv6 = allowed.ipv6.iter().map(Ipv6Addr::octets);
        let ipv6 = ipv6.map(|own| [is(Field::PROTOCOL, IPV6), is(Field::IPV6_TO, own)]);
        for own in ipv4.chain(ipv6) {
            let mut matches = back();
            matches.extend(own);
            batch.rule("turned", &matches, &Statement::Accept);
        }
    }
    batch.rule("turned", &back(), &Statement::Drop);
}

/// Whose IPv4 packets the guest sends.
fn ipv4(batch: &mut Batch<'_>, own: &[Ipv4Addr]) {
    if !own.is_empty() {
        let own = one_of(Field::IPV4_FROM, own.iter().map(Ipv4Addr::octets));
        let matches = [is(Field::PROTOCOL, IPV4), own];
        batch.rule("sent_ipv4", &matches, &Statement::Goto("content"));
    }
    batch.rule("sent_ipv4", &[], &Statement::Drop);
}

/// Whose IPv6 packets the guest sends, and whom it claims to be.
fn ipv6(batch: &mut Batch<'_>, allowed: &Allowed) {
    use Statement::{Accept, Drop, Goto};
    let from = |address: Ipv6Addr| {
        let field = Field::IPV6_FROM;
        [is(Field::PROTOCOL, IPV6), is(field, address.octets())]
    };
    let link_local = |field| masked(field, LINK_LOCAL_MASK.octets(), LINK_LOCAL.octets());
    let own = |field| one_of(field, allowed.ipv6.iter().map(Ipv6Addr::octets));
    let has_own = !allowed.ipv6.is_empty();

    if has_own {
        let matches = [is(Field::PROTOCOL, IPV6), own(Field::IPV6_FROM)];
        batch.rule("sent_ipv6", &matches, &Goto("named"));
    }
    if let Some(router) = allowed.router {
        batch.rule("sent_ipv6", &from(router), &Drop);
    }
    let matches = [
        is(Field::PROTOCOL, IPV6),
        link_local(Field::IPV6_FROM),
        noted(Field::IPV6_FROM, STATIONS.name),
    ];
    batch.rule("sent_ipv6", &matches, &Goto("named"));
    batch.rule("sent_ipv6", &from(Ipv6Addr::UNSPECIFIED), &Goto("unnamed"));
    batch.rule("sent_ipv6", &[], &Drop);

    let types = [
        icmpv6::NEIGHBOUR_SOLICITATION,
        icmpv6::NEIGHBOUR_ADVERTISEMENT,
    ];
    batch.rule("named", &icmpv6::message(types), &Goto("neighbour"));
    batch.rule("named", &[], &Goto("content"));

    let solicitation = icmpv6::message([icmpv6::NEIGHBOUR_SOLICITATION]);
    batch.rule("unnamed", &solicitation, &Goto("claim"));
    let reports = [icmpv6::MLD_REPORT, icmpv6::MLD_DONE, icmpv6::MLD2_REPORT];
    batch.rule("unnamed", &icmpv6::message(reports), &Accept);
    batch.rule("unnamed", &[], &Drop);

    if has_own {
        batch.rule("claim", &[own(Field::ND_TARGET)], &Accept);
    }
    if let Some(router) = allowed.router {
        let claimed = is(Field::ND_TARGET, router.octets());
        batch.rule("claim", &[claimed], &Drop);
    }
    let claimed = [
        link_local(Field::ND_TARGET),
        noted(Field::ND_TARGET, STATIONS.name),
    ];
    batch.rule("claim", &claimed, &Accept);
    batch.rule("claim", &[], &Drop);
}

/// Where the guest says that it is.
fn neighbour(batch: &mut Batch<'_>, filter: &Filter) {
    use Statement::{Drop, Goto};
    let fragment = at_least(Field::FRAGMENT_NEXT, [0]);
    batch.rule("neighbour", &[fragment], &Drop);
    // Of one unit, eight bytes.
    for (message, option) in [
        (icmpv6::NEIGHBOUR_SOLICITATION, SOURCE_MAC),
        (icmpv6::NEIGHBOUR_ADVERTISEMENT, TARGET_MAC),
    ] {
        let [protocol, kind] = icmpv6::message([message]);
        let other = is_not(Field::ND_OPTION, [option, 1]);
        batch.rule("neighbour", &[protocol, kind, other], &Drop);
    }
    let elsewhere = is_not(Field::ND_OPTION_MAC, filter.guest.0);
    batch.rule("neighbour", &[elsewhere], &Drop);
    batch.rule("neighbour", &[at_least(Field::ND_MORE, [0])], &Drop);
    let advertisement = icmpv6::message([icmpv6::NEIGHBOUR_ADVERTISEMENT]);
    batch.rule("neighbour", &advertisement, &Goto("claim"));
    batch.rule("neighbour", &[], &Goto("content"));
}

/// Whom the guest claims to be in ARP.
fn arp(batch: &mut Batch<'_>, filter: &Filter, own: &[Ipv4Addr]) {
    use Statement::{Accept, Drop};
    let about = |rest: Vec<Match>| {
        let mut matches = vec![is(Field::ETHER_TYPE, ARP)];
        matches.extend(rest);
        matches
    };
    let other = is_not(Field::ARP_SENDER_MAC, filter.guest.0);
    batch.rule("sent_arp", &about(vec![other]), &Drop);
    if !own.is_empty() {
        let own = |field| one_of(field, own.iter().map(Ipv4Addr::octets));
        batch.rule("sent_arp", &about(vec![own(Field::ARP_SENDER)]), &Accept);
        let nobody = is(Field::ARP_SENDER, Ipv4Addr::UNSPECIFIED.octets());
        let probe = about(vec![nobody, own(Field::ARP_TARGET)]);
        batch.rule("sent_arp", &probe, &Accept);
    }
    batch.rule("sent_arp", &[], &Drop);
}

/// What the guest never says, from whatever address: what only servers and routers do.
fn content(batch: &mut Batch<'_>, served: bool) {
    use Statement::{Accept, Drop, Goto};
    batch.rule("content", &[transport(TCP)], &Accept);
    // Most of UDP has nothing to do with those ports.
    let beyond = (port::DHCPV6_SERVER + 1).to_be_bytes();
    let plain = [
        transport(UDP),
        at_least(Field::PORT_FROM, beyond),
        at_least(Field::PORT_TO, beyond),
    ];
    batch.rule("content", &plain, &Accept);
    // Who asks, or speaks for, the members of groups decides what the others hear.
    let mut message_types = vec![
        icmpv6::MLD_QUERY,
        icmpv6::ROUTER_ADVERTISEMENT,
        icmpv6::REDIRECT,
        icmpv6::MULTICAST_ROUTER_ADVERTISEMENT,
        icmpv6::MULTICAST_ROUTER_SOLICITATION,
        icmpv6::MULTICAST_ROUTER_TERMINATION,
    ];
    let to_client = if served {
        // We have heard the guest's own questions, and nobody else is to.
        message_types.push(icmpv6::ROUTER_SOLICITATION);
        to(port::DHCP)
    } else {
        to([port::DHCP_CLIENT, port::DHCPV6_CLIENT])
    };
    batch.rule("content", &[transport(UDP), to_client], &Drop);
    let servers = ports([port::DHCP_SERVER, port::DHCPV6_SERVER]);
    let from_server = one_of(Field::PORT_FROM, servers);
    batch.rule("content", &[transport(UDP), from_server], &Drop);
    batch.rule("content", &icmpv6::message(message_types), &Drop);
    let ways = [ICMP_REDIRECT, ICMP_ROUTER_ADVERTISEMENT].map(|one| [one]);
    let ways = [transport(ICMP), one_of(Field::ICMP_TYPE, ways)];
    batch.rule("content", &ways, &Drop);
    let member = [IGMP_REPORT, IGMP2_REPORT, IGMP2_LEAVE, IGMP3_REPORT].map(|one| [one]);
    let member = [
        is(Field::PROTOCOL, IPV4),
        transport(IGMP),
        one_of(Field::IGMP_TYPE, member),
    ];
    batch.rule("content", &member, &Accept);
    let multicast = one_of(Field::TRANSPORT, [[IGMP], [PIM]]);
    batch.rule("content", &[multicast], &Drop);
    let first = masked(Field::FRAGMENT_OFFSET, [0xff, 0xf8], [0, 0]);
    batch.rule("content", &[first], &Goto("first"));
    let ip = one_of(Field::PROTOCOL, [IPV4, IPV6]);
    batch.rule("content", &[ip], &Goto("legible"));
    // A byte that is there is at least 0.
    batch.rule("first", &[at_least(Field::FIRST_BYTE, [0])], &Accept);
    batch.rule("first", &[], &Drop);
}

/// What could be looked into.
fn legible(batch: &mut Batch<'_>) {
    for field in [Field::TRANSPORT, Field::FRAGMENT_NEXT] {
        batch.rule("legible", &[at_least(field, [0])], &Statement::Accept);
    }
    batch.rule("legible", &[], &Statement::Drop);
}

/// One of these destination ports.
fn to(list: impl IntoIterator<Item = u16>) -> Match {
    one_of(Field::PORT_TO, ports(list))
}
