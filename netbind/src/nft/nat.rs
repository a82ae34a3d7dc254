//! The translation between a guest's network and its pod's addresses: masquerade binding.
//!
//! Of IPv4; of IPv6 the same, but for loopback addresses:
//!
//! ```text
//! table inet k6t-eth0 {
//!     chain arriving { type filter hook input priority 0; iifname "k6t-eth0" goto router
//!                      iifname "tap0" drop }
//!     chain router   { ct state established,related ct direction reply accept; ip daddr 127.0.0.0/8 drop
//!                      icmp type 8 accept; icmpv6 type { 128, 135, 136 } accept; drop }
//!     chain inbound  { type nat hook prerouting priority -99
//!                      udp dport { 67, 68, 546, 547 } accept; ip daddr POD dnat ip to GUEST }
//!     chain local    { type nat hook output priority -99
//!                      ip daddr { 127.0.0.1, POD } dnat ip to GUEST }
//!     chain outbound { type nat hook postrouting priority 101
//!                      oifname "eth0" ip saddr GUEST masquerade
//!                      oifname "k6t-eth0" ip saddr GUEST masquerade
//!                      oifname "k6t-eth0" ip saddr 127.0.0.0/8 masquerade }
//!     chain crossing { type filter hook forward priority 0
//!                      ct state established,related accept
//!                      oifname "k6t-eth0" ct status dnat accept
//!                      iifname "k6t-eth0" oifname "eth0" ip saddr GUEST ct state new accept
//!                      iifname "k6t-eth0" drop; oifname "k6t-eth0" drop
//!                      iifname "eth0" meta nfproto ipv4 drop; meta nfproto ipv6 drop }
//! }
//! ```
//!
//! With ports named, `inbound` and `local` hold one rule a transport protocol, with
//! `tcp dport { ... }`, and everything else (ICMP as well) stays the pod's.
//!
//! * `router`: whatever listens in the pod, by whichever of its addresses, is not the guest's to call.
//!   It may answer, ask whether its router is there, and resolve its address. The bridge routes
//!   loopback addresses, for `local` needs that: what comes to them is answers alone. IPv6 has no such
//!   setting: the pod's `::1` stays the pod's.
//! * `inbound` and `outbound` hold for what comes from the bridge too: a guest that calls the pod's
//!   address reaches itself, and sees its router call, not itself.
//! * `crossing`: what no connection is known for would leave untranslated. The last rules are there
//!   only if the pod did not forward before: this is to make no router of it. IPv4 comes to forward
//!   on its interface alone, IPv6 on all links of the namespace.
//!
//! What the guest sends by DHCP, from other addresses than its own, or as a router, the bridge's
//! [`filter`](super::filter) has dropped before. Other tables are left alone. Of those that would
//! translate a connection the first does: iptables and nft are at -100 and 100, so that what they
//! redirect (a service mesh does) stays theirs. At the same priority it would be who came last.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::batch::{self, Batch, Family, Hook, Kind, Place};
use super::expression::{Field, Match, Statement, any, is, one_of};
use super::{ICMP, TCP, UDP, enters, icmpv6, leaves, port, ports, transport};
use crate::plan::{Nat, Protocol};

/// States of a connection (`NF_CT_STATE_BIT`), and what was done to it (`IPS_*`).
const ESTABLISHED: u32 = 1 << 1;
const RELATED: u32 = 1 << 2;
const NEW: u32 = 1 << 3;
const DST_NAT: u32 = 1 << 5;

/// The direction of answers (`IP_CT_DIR_REPLY`).
const REPLY: u8 = 1;

/// The type of ICMP's echo request (RFC 792).
const ECHO: u8 = 8;

/// 127.0.0.0/8.
const LOOPBACK_8: [u8; 1] = [127];

/// Makes the table, in the place of one that a killed set-up may have left.
pub(crate) fn install(nat: &Nat) -> io::Result<()> {
    batch::install(Family::Inet, &nat.table, |batch| fill(batch, nat))
}

/// Removes the table, if there is one.
pub(crate) fn remove(table: &str) -> io::Result<()> {
    batch::remove(Family::Inet, table)
}

/// One address family of a translation.
struct Side {
    version: Version,
    pod: Vec<Vec<u8>>,
    guest: IpAddr,
    forwarded: bool,
}

#[derive(Clone, Copy)]
enum Version {
    Ipv4,
    Ipv6,
}

impl Side {
    fn of(nat: &Nat) -> impl Iterator<Item = Self> {
        let ipv4 = nat.ipv4.as_ref().map(|ipv4| Self {
            version: Version::Ipv4,
            pod: ipv4.pod.iter().map(|ip| ip.octets().into()).collect(),
            guest: ipv4.guest.into(),
            forwarded: ipv4.forwarded,
        });
        let ipv6 = nat.ipv6.as_ref().map(|ipv6| Self {
            version: Version::Ipv6,
            pod: ipv6.pod.iter().map(|ip| ip.octets().into()).collect(),
            guest: ipv6.guest.into(),
            forwarded: ipv6.forwarded,
        });
        ipv4.into_iter().chain(ipv6)
    }

    /// The pod's own loopback address, where it can be the guest's. The kernel takes packets for `::1`
    /// from the loopback interface only, so that no answer could come back.
    fn loopback(&self) -> Option<Vec<u8>> {
        match self.version {
            Version::Ipv4 => Some(Ipv4Addr::LOCALHOST.octets().into()),
            Version::Ipv6 => None,
        }
    }

    fn version(&self) -> Match {
        // NFPROTO_IPV4 and NFPROTO_IPV6.
        let value = match self.version {
            Version::Ipv4 => 2,
            Version::Ipv6 => 10,
        };
        is(Field::IP_VERSION, [value])
    }

    fn sent_by_guest(&self) -> Match {
        match self.guest {
            IpAddr::V4(guest) => is(Field::IPV4_FROM, guest.octets()),
            IpAddr::V6(guest) => is(Field::IPV6_FROM, guest.octets()),
        }
    }

    fn sent_to(&self, addresses: impl IntoIterator<Item = Vec<u8>>) -> Match {
        let field = match self.version {
            Version::Ipv4 => Field::IPV4_TO,
            Version::Ipv6 => Field::IPV6_TO,
        };
        one_of(field, addresses)
    }
}

fn fill(batch: &mut Batch<'_>, nat: &Nat) {
    use Statement::{Accept, Drop};
    chains(batch);
    router(batch, nat);
    if nat.ports.is_empty() {
        let dhcp = one_of(Field::PORT_TO, ports(port::DHCP));
        batch.rule("inbound", &[transport(UDP), dhcp], &Accept);
    }
    for side in Side::of(nat) {
        translate(batch, nat, &side);
    }

    batch.rule(
        "crossing",
        &[any(Field::STATE, ESTABLISHED | RELATED)],
        &Accept,
    );
    let inbound = [leaves(&nat.bridge), any(Field::STATUS, DST_NAT)];
    batch.rule("crossing", &inbound, &Accept);
    for side in Side::of(nat) {
        let outbound = [
            enters(&nat.bridge),
            leaves(&nat.interface),
            side.version(),
            side.sent_by_guest(),
            any(Field::STATE, NEW),
        ];
        batch.rule("crossing", &outbound, &Accept);
    }
    batch.rule("crossing", &[enters(&nat.bridge)], &Drop);
    batch.rule("crossing", &[leaves(&nat.bridge)], &Drop);
    for side in Side::of(nat).filter(|side| !side.forwarded) {
        let through = match side.version {
            Version::Ipv4 => vec![enters(&nat.interface), side.version()],
            Version::Ipv6 => vec![side.version()],
        };
        batch.rule("crossing", &through, &Drop);
    }
}

/// What the guest may say to the pod itself.
fn router(batch: &mut Batch<'_>, nat: &Nat) {
    use Statement::{Accept, Drop, Goto};
    batch.rule("arriving", &[enters(&nat.bridge)], &Goto("router"));
    batch.rule("arriving", &[enters(&nat.tap)], &Drop);
    let answers = [
        any(Field::STATE, ESTABLISHED | RELATED),
        is(Field::DIRECTION, [REPLY]),
    ];
    batch.rule("router", &answers, &Accept);
    for side in Side::of(nat) {
        match side.version {
            Version::Ipv4 => {
                let loopback = is(Field::IPV4_TO_8, LOOPBACK_8);
                batch.rule("router", &[side.version(), loopback], &Drop);
                let echo = [transport(ICMP), is(Field::ICMP_TYPE, [ECHO])];
                batch.rule("router", &echo, &Accept);
            }
            Version::Ipv6 => {
                let types = [
                    icmpv6::ECHO,
                    icmpv6::NEIGHBOUR_SOLICITATION,
                    icmpv6::NEIGHBOUR_ADVERTISEMENT,
                ];
                batch.rule("router", &icmpv6::message(types), &Accept);
            }
        }
    }
    batch.rule("router", &[], &Drop);
}

fn chains(batch: &mut Batch<'_>) {
    let chains = [
        ("arriving", Kind::Filter, Place::Input, 0),
        ("inbound", Kind::Nat, Place::Prerouting, -99),
        ("local", Kind::Nat, Place::Output, -99),
        ("outbound", Kind::Nat, Place::Postrouting, 101),
        ("crossing", Kind::Filter, Place::Forward, 0),
    ];
    for (name, kind, place, priority) in chains {
        let hook = Hook {
            kind,
            place,
            priority,
        };
        batch.base_chain(name, &hook);
    }
    batch.chains(&["router"]);
}

/// Where connections of one address family go, and come from.
fn translate(batch: &mut Batch<'_>, nat: &Nat, side: &Side) {
    let from_outside = side.pod.clone();
    let mut from_inside = side.pod.clone();
    from_inside.extend(side.loopback());
    for (chain, addresses) in [("inbound", from_outside), ("local", from_inside)] {
        for mut served in served(nat) {
            let mut matches = vec![side.version(), side.sent_to(addresses.clone())];
            matches.append(&mut served);
            batch.rule(chain, &matches, &Statement::Dnat(side.guest));
        }
    }
    for link in [&nat.interface, &nat.bridge] {
        let own = [leaves(link), side.version(), side.sent_by_guest()];
        batch.rule("outbound", &own, &Statement::Masquerade);
    }
    if let Version::Ipv4 = side.version {
        let loopback = is(Field::IPV4_FROM_8, LOOPBACK_8);
        let local = [leaves(&nat.bridge), side.version(), loopback];
        batch.rule("outbound", &local, &Statement::Masquerade);
    }
}

/// What of the pod's addresses is the guest's: everything, or the ports of each protocol.
fn served(nat: &Nat) -> Vec<Vec<Match>> {
    if nat.ports.is_empty() {
        return vec![Vec::new()];
    }
    let of = |protocol: Protocol, number: u8| {
        let listed = nat
            .ports
            .iter()
            .filter(move |port| port.protocol == protocol);
        let listed: Vec<_> = listed.map(|port| port.port).collect();
        let matches = || {
            vec![
                transport(number),
                one_of(Field::PORT_TO, ports(listed.iter().copied())),
            ]
        };
        (!listed.is_empty()).then(matches)
    };
    [of(Protocol::Tcp, TCP), of(Protocol::Udp, UDP)]
        .into_iter()
        .flatten()
        .collect()
}
