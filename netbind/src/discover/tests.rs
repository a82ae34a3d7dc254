use std::net::IpAddr;

use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoNetkit, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, NetkitMode,
};

use super::check;
use super::read::Found;
use crate::mac::Mac;
use crate::netlink::Link;
use crate::network::{Address, Scope};

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

/// A link, through the bytes in which the kernel tells of it. (The kinds that are refused are not
/// in every kernel; those that are, `tests/shapes` and `tests/refusals` make.)
fn link(mac: &[u8], flags: LinkFlags, info: Vec<LinkInfo>) -> Link {
    let mut message = LinkMessage::default();
    message.header.flags = flags;
    message.attributes = vec![
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::Address(mac.to_vec()),
    ];
    if !info.is_empty() {
        message.attributes.push(LinkAttribute::LinkInfo(info));
    }
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    LinkMessage::parse(&bytes).unwrap().into()
}

#[test]
fn only_links_with_a_mac_of_their_own_are_taken() {
    let up = LinkFlags::Up;
    let kind = |kind: InfoKind| vec![LinkInfo::Kind(kind)];
    let netkit = |mode| {
        let settings = InfoData::Netkit(vec![InfoNetkit::Primary(false), InfoNetkit::Mode(mode)]);
        vec![LinkInfo::Kind(InfoKind::Netkit), LinkInfo::Data(settings)]
    };
    let good = |mac, info| (link(mac, up, info), Ok(Mac(MAC)));
    let cases = [
        good(&MAC[..], kind(InfoKind::Veth)),
        good(&MAC[..], kind(InfoKind::MacVlan)),
        good(&MAC[..], vec![]),
        good(&MAC[..], netkit(NetkitMode::L2)),
        (
            link(&[0; 6], up, netkit(NetkitMode::L3)),
            Err("netkit device in layer-3 mode"),
        ),
        (
            link(&MAC, up, kind(InfoKind::IpVlan)),
            Err("of kind ipvlan, which shares one MAC"),
        ),
        (
            link(&MAC, up, kind(InfoKind::IpVtap)),
            Err("of kind ipvtap, which shares one MAC"),
        ),
        (
            link(&[0; 6], up, kind(InfoKind::Veth)),
            Err("no unicast MAC"),
        ),
        (link(&[], up, kind(InfoKind::Tun)), Err("no unicast MAC")),
        // InfiniBand's.
        (link(&[2; 20], up, vec![]), Err("no unicast MAC")),
        (
            link(&[0x33, 0x33, 0, 0, 0, 1], up, vec![]),
            Err("no unicast MAC"),
        ),
        (
            link(&MAC, LinkFlags::empty(), kind(InfoKind::Veth)),
            Err("eth0 is down"),
        ),
        (
            link(&[0; 6], up | LinkFlags::Loopback, vec![]),
            Err("loopback"),
        ),
    ];
    for (link, expected) in cases {
        match (check::link(&link), expected) {
            (Ok(mac), Ok(expected)) => assert_eq!(mac, expected),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{expected}: {error}");
            }
            (found, _) => panic!("{link:?}: {found:?}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Sure,
    Tentative,
    Duplicate,
    Temporary,
    Deprecated,
}

/// An address in a state; of the last two, one that the kernel is not sure of either.
fn found(address: &str, state: State) -> Found {
    let net: ipnet::IpNet = address.parse().unwrap();
    let link_local = matches!(net.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local());
    Found {
        address: Address {
            net,
            scope: if link_local {
                Scope::Link
            } else {
                Scope::Global
            },
            secondary: state == State::Temporary,
            deprecated: state == State::Deprecated,
            autoconfigured: false,
        },
        tentative: !matches!(state, State::Sure | State::Duplicate),
        duplicate: state == State::Duplicate,
    }
}

#[test]
fn an_address_is_waited_for_where_the_guest_is_to_get_it() {
    use State::*;
    const V4: &str = "10.0.0.2/24";
    const V6: &str = "fd00::2/64";
    const LOCAL: &str = "fe80::2/64";
    /// The addresses, those expected, and what is said.
    type Case<'a> = (&'a [(&'a str, State)], &'a [&'a str], Result<(), &'a str>);
    let cases: &[Case<'_>] = &[
        (&[], &[], Ok(())),
        (&[(V4, Sure), (LOCAL, Tentative)], &["10.0.0.2"], Ok(())),
        (&[(V4, Sure), (LOCAL, Duplicate)], &[], Ok(())),
        (&[(V6, Sure)], &["fd00::2"], Ok(())),
        (&[(V6, Tentative)], &[], Err("fd00::2 on eth0 is tentative")),
        (
            &[(V6, Duplicate)],
            &[],
            Err("fd00::2 on eth0 is a duplicate"),
        ),
        (&[(V6, Temporary)], &[], Ok(())),
        (&[(V6, Deprecated)], &[], Ok(())),
        // What is asked for by name counts, whatever it is.
        (&[(V6, Deprecated)], &["fd00::2"], Err("tentative")),
        (
            &[(LOCAL, Tentative)],
            &["fe80::2"],
            Err("fe80::2 on eth0 is tentative"),
        ),
        (
            &[],
            &["fd00::2", "10.0.0.2"],
            Err("does not have the expected address fd00::2, 10.0.0.2 (it has: none)"),
        ),
        (
            &[(V4, Sure)],
            &["10.0.0.3"],
            Err("does not have the expected address 10.0.0.3 (it has: 10.0.0.2)"),
        ),
        // What waiting cannot mend is told first.
        (&[(V6, Duplicate)], &["10.0.0.3"], Err("duplicate")),
    ];
    for (addresses, expected, says) in cases {
        let addresses: Vec<_> = addresses.iter().map(|(a, s)| found(a, *s)).collect();
        let expected: Vec<_> = expected.iter().map(|text| text.parse().unwrap()).collect();
        match (check::addresses("eth0", &addresses, &expected), says) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(says)) => {
                assert!(error.to_string().contains(says), "{says}: {error}");
            }
            (result, _) => panic!("{addresses:?}, {expected:?}: {result:?}"),
        }
    }
}
