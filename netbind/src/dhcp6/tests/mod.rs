//! The protocol's rules, a test each, and what is on the wire as another implementation reads it.

mod hostile;
mod replays;
mod rules;
mod wire;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use dhcproto::v6;
use dhcproto::{Decodable, Decoder};

use super::options::code;
use super::*;
use crate::Event;
use crate::ipv6::{Ipv6Network, Router, Speaker};
use crate::mac::Mac;

const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SERVER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 3);
const SECOND: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 3);
const OTHER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 9);
const CLIENT_ID: &[u8] = &[0, 1, 0, 1, 9, 9, 9, 9, 2, 0, 0, 0, 0, 1];
const OTHER_ID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9];
const TRANSACTION: [u8; 3] = [1, 2, 3];

const SOLICIT: u8 = 1;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const INFORMATION_REQUEST: u8 = 11;

fn network() -> Ipv6Network {
    Ipv6Network {
        addresses: vec![ADDRESS, SECOND],
        router: Router {
            address: "fe80::1".parse().unwrap(),
            default: true,
            speaker: Speaker::Itself,
        },
        on_link: vec!["fd00:10::/64".parse().unwrap()],
        routes: Vec::new(),
        dns: vec![
            "fd00:96::a".parse().unwrap(),
            "2001:db8::53".parse().unwrap(),
        ],
        search: vec![
            "default.svc.cluster.local".to_owned(),
            "svc.cluster.local".to_owned(),
        ],
        ntp: vec![
            "2001:db8::123".parse().unwrap(),
            "2001:db8::124".parse().unwrap(),
        ],
        hostname: Some("vm".to_owned()),
        mtu: 1450,
        seconds: 1000,
    }
}

fn server_id() -> [u8; 10] {
    server_duid(SERVER)
}

fn responder() -> Responder {
    Responder::new(&network(), SERVER, GUEST)
}

/// A client's packet with these options in this order.
fn packet(kind: u8, options: &[Vec<u8>]) -> Vec<u8> {
    let [a, b, c] = TRANSACTION;
    [vec![kind, a, b, c], options.concat()].concat()
}

/// A packet that every server or one server is to see, as its kind needs it.
fn sound(kind: u8, options: &[Vec<u8>]) -> Vec<u8> {
    let mut all = vec![client_id()];
    if [REQUEST, RENEW, RELEASE, DECLINE].contains(&kind) {
        all.push(option(code::SERVER_ID, &server_id()));
    }
    all.extend_from_slice(options);
    packet(kind, &all)
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = value.len() as u16;
    [&code.to_be_bytes(), &length.to_be_bytes(), value].concat()
}

fn client_id() -> Vec<u8> {
    option(code::CLIENT_ID, CLIENT_ID)
}

fn requested(codes: &[u16]) -> Vec<u8> {
    let value: Vec<_> = codes.iter().flat_map(|code| code.to_be_bytes()).collect();
    option(code::REQUESTED, &value)
}

fn addresses(addresses: &[Ipv6Addr]) -> Vec<u8> {
    addresses
        .iter()
        .flat_map(|address| option(code::IA_ADDRESS, &[&address.octets()[..], &[0; 8]].concat()))
        .collect()
}

fn ia_na(id: u8, named: &[Ipv6Addr]) -> Vec<u8> {
    option(
        code::IA_NA,
        &[&[0, 0, 0, id][..], &[0; 8], &addresses(named)].concat(),
    )
}

fn ia_ta(id: u8, named: &[Ipv6Addr]) -> Vec<u8> {
    option(
        code::IA_TA,
        &[&[0, 0, 0, id][..], &addresses(named)].concat(),
    )
}

fn ia_pd(id: u8) -> Vec<u8> {
    let prefix = option(code::IA_PREFIX, &[0; 25]);
    option(
        code::IA_PD,
        &[&[0, 0, 0, id][..], &[0; 8], &prefix].concat(),
    )
}

/// One answer to a multicast packet, its payload as dhcproto reads it.
fn answer(packet: &[u8]) -> (Option<v6::Message>, Option<Event>) {
    let message = Message::parse(packet).unwrap();
    let (reply, event) = responder().answer(&message, true, Duration::ZERO);
    (reply.as_deref().map(decode), event)
}

/// Decodes a reply. dhcproto ends without a word at an option that it cannot read, so they are
/// counted.
fn decode(reply: &[u8]) -> v6::Message {
    let message = v6::Message::decode(&mut Decoder::new(reply)).unwrap();
    let written = walk(&reply[4..]);
    assert_eq!(message.opts().iter().count(), written.len());
    for (code, value) in written {
        match code {
            code::IA_NA | code::IA_PD => drop(walk(&value[12..])),
            code::IA_TA => drop(walk(&value[4..])),
            _ => {}
        }
    }
    message
}

/// The options of an area, which they fill.
fn walk(mut area: &[u8]) -> Vec<(u16, &[u8])> {
    let mut options = Vec::new();
    while !area.is_empty() {
        let ([a, b, c, d], rest) = area.split_first_chunk().unwrap();
        let (value, rest) = rest.split_at(u16::from_be_bytes([*c, *d]).into());
        options.push((u16::from_be_bytes([*a, *b]), value));
        area = rest;
    }
    options
}

/// The codes of a reply's options.
fn codes(reply: &v6::Message) -> Vec<u16> {
    reply
        .opts()
        .iter()
        .map(|option| v6::OptionCode::from(option).into())
        .collect()
}

/// An IA_NA of a reply.
#[derive(Debug, PartialEq)]
struct Granted {
    id: u32,
    t1: u32,
    t2: u32,
    /// Each with its lifetime.
    addresses: Vec<(Ipv6Addr, u32)>,
}

fn granted(reply: &v6::Message) -> Vec<Granted> {
    let mut granted = Vec::new();
    for option in reply.opts().iter() {
        let v6::DhcpOption::IANA(ia) = option else {
            continue;
        };
        let addresses = ia.opts.iter().filter_map(|option| match option {
            v6::DhcpOption::IAAddr(address) => {
                assert_eq!(address.preferred_life, address.valid_life);
                Some((address.addr, address.valid_life))
            }
            _ => None,
        });
        granted.push(Granted {
            id: ia.id,
            t1: ia.t1,
            t2: ia.t2,
            addresses: addresses.collect(),
        });
    }
    granted
}

/// The status codes of a reply: its own, and those of its associations with their identifiers.
fn statuses(reply: &v6::Message) -> Vec<(Option<u32>, v6::Status)> {
    let mut statuses = Vec::new();
    let mut read = |id, options: &v6::DhcpOptions| {
        for option in options.iter() {
            if let v6::DhcpOption::StatusCode(code) = option {
                statuses.push((id, code.status));
            }
        }
    };
    read(None, reply.opts());
    for option in reply.opts().iter() {
        match option {
            v6::DhcpOption::IANA(ia) => read(Some(ia.id), &ia.opts),
            v6::DhcpOption::IATA(ia) => read(Some(ia.id), &ia.opts),
            v6::DhcpOption::IAPD(ia) => read(Some(ia.id), &ia.opts),
            _ => {}
        }
    }
    statuses
}

fn acked(address: Ipv6Addr) -> Option<Event> {
    Some(Event::Acked {
        client: GUEST,
        address: IpAddr::V6(address),
    })
}

fn offered(address: Ipv6Addr) -> Option<Event> {
    Some(Event::Offered {
        client: GUEST,
        address: IpAddr::V6(address),
    })
}

fn naked(requested: Ipv6Addr) -> Option<Event> {
    Some(Event::Naked {
        client: GUEST,
        requested: IpAddr::V6(requested),
    })
}
