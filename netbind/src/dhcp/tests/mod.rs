//! The protocol's rules, a test each, and what is on the wire as another implementation reads it.

mod areas;
mod message;
mod replays;
mod reply;
mod state;

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{self, DhcpOption, OptionCode};
use dhcproto::{Decodable, Decoder};

use super::*;
use crate::Event;
use crate::mac::Mac;

const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 7, 7, 7);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn lease() -> Lease {
    Lease {
        client: GUEST,
        address: "10.1.2.3/24".parse().unwrap(),
        router: Some(Ipv4Addr::new(10, 1, 2, 1)),
        routes: Vec::new(),
        dns: vec![Ipv4Addr::new(10, 96, 0, 10), Ipv4Addr::new(192, 0, 2, 53)],
        search: vec![
            "default.svc.cluster.local".to_owned(),
            "svc.cluster.local".to_owned(),
        ],
        domain: Some("default.svc.cluster.local".to_owned()),
        hostname: Some("vm".to_owned()),
        mtu: 1450,
        ntp: vec![Ipv4Addr::new(192, 0, 2, 123)],
        tftp_server_name: Some("tftp.example".to_owned()),
        boot_file_name: Some("pxelinux.0".to_owned()),
        private: [(224, "a".to_owned()), (254, "b".to_owned())].into(),
        server_id: SERVER_ID,
        seconds: 1000,
    }
}

/// A lease that says no more than it must.
fn bare() -> Lease {
    Lease {
        router: None,
        dns: Vec::new(),
        search: Vec::new(),
        domain: None,
        hostname: None,
        ntp: Vec::new(),
        tftp_server_name: None,
        boot_file_name: None,
        private: Default::default(),
        ..lease()
    }
}

/// A client's message, as `Message::parse` would make it.
fn message(kind: Kind) -> Message<'static> {
    Message {
        kind,
        xid: 7,
        broadcast: false,
        ciaddr: NONE,
        giaddr: NONE,
        chaddr: GUEST,
        requested: None,
        server_id: None,
        seconds: None,
        parameters: [].as_slice().into(),
        max_size: Some(1500),
        client_id: None,
        rapid_commit: false,
        relay_agent: None,
    }
}

/// One reply to a lease's client.
fn reply(lease: Lease, message: &Message<'_>) -> Reply {
    let (reply, _) = Responder::new(lease).answer(message, Duration::ZERO);
    reply.unwrap()
}

/// One answer, and its reply as dhcproto reads it.
fn answer(message: &Message<'_>) -> (Option<(Reply, v4::Message)>, Option<Event>) {
    let (reply, event) = Responder::new(lease()).answer(message, Duration::ZERO);
    (reply.map(|reply| (reply.clone(), decode(&reply))), event)
}

fn decode(reply: &Reply) -> v4::Message {
    v4::Message::decode(&mut Decoder::new(&reply.payload)).unwrap()
}

/// A client's packet with these options.
fn packet(options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[28..34].copy_from_slice(&GUEST.0);
    packet.extend([99, 130, 83, 99]);
    for (code, value) in options {
        packet.extend([*code, value.len() as u8]);
        packet.extend(*value);
    }
    packet.push(255);
    packet
}

fn options(reply: &Reply) -> impl Iterator<Item = (u8, &[u8])> {
    area(&reply.payload[240..])
}

/// The options of an area, up to its end mark; behind that is only padding.
fn area(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&code, after) = rest.split_first()?;
        if code == 255 {
            assert!(after.iter().all(|byte| *byte == 0));
            return None;
        }
        let (value, after) = after[1..].split_at(after[0].into());
        rest = after;
        Some((code, value))
    })
}

fn codes(reply: &Reply) -> Vec<u8> {
    options(reply).map(|(code, _)| code).collect()
}

/// The values of one option, joined.
fn value(reply: &Reply, wanted: u8) -> Vec<u8> {
    options(reply)
        .filter(|(code, _)| *code == wanted)
        .flat_map(|(_, value)| value.to_vec())
        .collect()
}
