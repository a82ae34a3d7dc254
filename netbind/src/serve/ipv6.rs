//! What the guest is answered over IPv6, and what it is told unasked.
//!
//! ```text
//! guest    RS -> router advertisement
//!          NS -> neighbour advertisement, in the name of a station that is silent
//!          NS for a router that the pod knows by another address -> NS for that to the network
//!          DHCPv6 -> DHCPv6
//! network  NA of that address -> NA of the router's to the guest
//! ```
//!
//! Of that relay nothing is remembered: what the guest knows of its router ages, is asked for again
//! and is lost exactly as if the router itself were asked.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::frame::ipv6::{self, Question};
use super::frame::{Frame, Kind};
use super::{Answer, Event};
use crate::dhcp6;
use crate::ipv6::{Ipv6Network, Speaker};
use crate::mac::Mac;
use crate::ndp::{self, ALL_NODES, Advertisement, Message, Neighbour, Schedule};
use crate::pace::Pace;
use crate::plan::GuestNetwork;

/// Solicitations that are relayed to the network at once. A guest asks up to three times, a second
/// apart, for the one router that it has (RFC 4861 section 10).
const RELAY_BURST: u32 = 8;
/// After a burst, one in this time.
const RELAY_INTERVAL: Duration = Duration::from_millis(250);

/// The guest's router, as far as it is ours, and its DHCPv6 server.
#[derive(Debug)]
pub(super) struct Ipv6 {
    guest: Mac,
    server: Mac,
    router: Ipv6Addr,
    relay: Option<Relay>,
    neighbours: Vec<Neighbour>,
    advertisement: Advertisement,
    schedule: Schedule,
    dhcp: dhcp6::Responder,
}

/// Between the guest, who knows its router by a link-local address, and the gateway.
#[derive(Debug)]
struct Relay {
    /// The pod's address, which is the guest's.
    address: Ipv6Addr,
    /// The gateway's.
    gateway: Ipv6Addr,
    pace: Pace,
}

impl Relay {
    /// The guest's question to the gateway, unless it asks too often.
    fn ask(&mut self, guest: Mac, now: Duration) -> Option<Vec<u8>> {
        if !self.pace.allows(now) {
            return None;
        }
        let (group, packet) = ndp::solicit(self.address, guest, self.gateway);
        Some(frame(guest, multicast(group), &packet))
    }
}

impl Ipv6 {
    pub(super) fn new(network: &GuestNetwork, ipv6: &Ipv6Network) -> Self {
        let router = ipv6.router.address;
        let neighbour = |address, mac| Neighbour {
            address,
            mac,
            router: address == router,
        };
        let mut neighbours = Vec::new();
        let mut relay = None;
        match ipv6.router.speaker {
            Speaker::Itself => {}
            Speaker::Station(mac) => neighbours.push(neighbour(router, mac)),
            Speaker::Gateway(gateway) => {
                relay = ipv6.addresses.first().map(|address| Relay {
                    address: *address,
                    gateway,
                    pace: Pace::new(RELAY_BURST, RELAY_INTERVAL),
                });
            }
        }
        neighbours.extend(network.neighbours.iter().filter_map(|n| match n.address {
            IpAddr::V6(address) => Some(neighbour(address, n.mac)),
            IpAddr::V4(_) => None,
        }));
        Self {
            guest: network.mac,
            server: network.server_mac,
            router,
            relay,
            neighbours,
            advertisement: Advertisement::new(ipv6),
            schedule: Schedule::new(Duration::ZERO),
            dhcp: dhcp6::Responder::new(ipv6, network.server_mac, network.mac),
        }
    }

    /// What the guest is not told for lack of room, if anything.
    pub(super) fn warning(&self) -> Option<Event> {
        let left_out = self.advertisement.left_out();
        let (first, others) = left_out.split_first()?;
        let others = match others.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        Some(Event::Warning {
            message: format!(
                "router advertisements leave out {first}{others}: they exceed the MTU; shorten the \
                 pod's search domains, name servers or routes"
            ),
        })
    }

    /// When the guest is next told something unasked, since the server's start.
    pub(super) fn next(&self) -> Duration {
        self.schedule.next()
    }

    /// The advertisement that is due, if one is. `random` chooses the time to the next.
    pub(super) fn unsolicited(
        &mut self,
        now: Duration,
        random: impl FnOnce() -> u32,
    ) -> Option<Vec<u8>> {
        self.schedule
            .is_due(now, random)
            .then(|| self.advertise(ALL_NODES))
    }

    /// Answers a frame of the guest.
    pub(super) fn answer(&mut self, frame: &Frame<'_>, now: Duration) -> Answer {
        if frame.source != self.guest {
            return Answer::default();
        }
        if let Some(question) = Question::parse(frame.packet) {
            return self.lease(&question, now);
        }
        let Some(Message { source, kind, .. }) = Message::parse(frame.packet) else {
            return Answer::default();
        };
        match kind {
            ndp::Kind::RouterSolicitation => Answer {
                to_guest: self
                    .schedule
                    .solicited(source, now)
                    .map(|destination| self.advertise(destination)),
                ..Answer::default()
            },
            ndp::Kind::NeighbourSolicitation { target } => self.neighbour(source, target, now),
            ndp::Kind::NeighbourAdvertisement { .. } => Answer::default(),
        }
    }

    /// Translates a frame of the network for the guest, if it is the gateway's advertisement.
    pub(super) fn relayed(&self, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let relay = self.relay.as_ref()?;
        let message = Message::parse(frame.packet)?;
        let ndp::Kind::NeighbourAdvertisement {
            target,
            solicited,
            overrides,
            mac: Some(mac),
        } = message.kind
        else {
            return None;
        };
        // What the gateway tells other stations is between them.
        let destination = match message.destination {
            one if one == relay.address => one,
            all if all.is_multicast() => ALL_NODES,
            _ => return None,
        };
        // The guest would take its own MAC for its router's, and lose the way out.
        if target != relay.gateway || !mac.is_unicast() || mac == self.guest {
            return None;
        }
        // It routes, whatever it says of itself: the pod's routes lead through it.
        let router = Neighbour {
            address: self.router,
            mac,
            router: true,
        };
        let packet = router.advertise(destination, solicited, overrides);
        Some(self.to_guest(mac, destination, &packet))
    }

    /// A router advertisement to the guest.
    fn advertise(&self, destination: Ipv6Addr) -> Vec<u8> {
        let packet = self.advertisement.packet(destination);
        self.to_guest(self.server, destination, &packet)
    }

    /// Answers for a silent station, or asks the gateway.
    fn neighbour(&mut self, source: Ipv6Addr, target: Ipv6Addr, now: Duration) -> Answer {
        let known = self.neighbours.iter().find(|n| n.address == target);
        if let Some(neighbour) = known {
            // RFC 4861 section 7.2.4: one who has no address wants this one, and all are told.
            let (destination, solicited) = match source.is_unspecified() {
                true => (ALL_NODES, false),
                false => (source, true),
            };
            let packet = neighbour.advertise(destination, solicited, true);
            return Answer {
                to_guest: Some(self.to_guest(neighbour.mac, destination, &packet)),
                ..Answer::default()
            };
        }
        let relay = self.relay.as_mut();
        let to_network = relay
            .filter(|_| target == self.router && !source.is_unspecified())
            .and_then(|relay| relay.ask(self.guest, now));
        Answer {
            to_network,
            ..Answer::default()
        }
    }

    /// Answers by DHCPv6.
    fn lease(&mut self, question: &Question<'_>, now: Duration) -> Answer {
        let Some(message) = dhcp6::Message::parse(question.payload) else {
            return Answer::default();
        };
        let (reply, event) = self.dhcp.answer(&message, question.multicast, now);
        let to_guest = reply.map(|reply| {
            let packet = ipv6::answer(self.server, question.source, &reply);
            self.to_guest(self.server, question.source, &packet)
        });
        Answer {
            to_guest,
            event,
            ..Answer::default()
        }
    }

    /// A frame to the guest, or to all that are behind the tap.
    fn to_guest(&self, source: Mac, destination: Ipv6Addr, packet: &[u8]) -> Vec<u8> {
        let to = match destination.is_multicast() {
            true => multicast(destination),
            false => self.guest,
        };
        frame(source, to, packet)
    }
}

fn frame(source: Mac, destination: Mac, packet: &[u8]) -> Vec<u8> {
    Frame {
        destination,
        source,
        kind: Kind::Ipv6,
        packet,
    }
    .build()
}

/// The MAC of a multicast group (RFC 2464 section 7).
fn multicast(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipv6::Router;
    use crate::network::Neighbour as Permanent;
    use crate::plan::Binding;

    const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const SERVER: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// The server of a guest whose router, `fe80::1`, has that speaker.
    fn server(speaker: Speaker) -> Ipv6 {
        let network = GuestNetwork {
            binding: Binding::default(),
            interface: "eth0".to_owned(),
            bridge: "k6t-eth0".to_owned(),
            tap: "tap0".to_owned(),
            mac: GUEST,
            mtu: 1400,
            server_mac: SERVER,
            lease: None,
            ipv6: None,
            neighbours: vec![Permanent {
                address: address("2001:db8::5").into(),
                mac: GATEWAY,
            }],
            warnings: Vec::new(),
        };
        let ipv6 = Ipv6Network {
            addresses: vec![address("2001:db8::2"), address("2001:db8::3")],
            router: Router {
                address: address("fe80::1"),
                default: true,
                speaker,
            },
            on_link: Vec::new(),
            routes: Vec::new(),
            dns: Vec::new(),
            search: (0..30)
                .map(|i| format!("{i}.{}.example", "x".repeat(60)))
                .collect(),
            ntp: Vec::new(),
            hostname: None,
            mtu: 1400,
            seconds: 86_400,
        };
        Ipv6::new(&network, &ipv6)
    }

    fn by_global() -> Ipv6 {
        server(Speaker::Gateway(address("2001:db8::1")))
    }

    /// The answer to who asks for a neighbour, after some time.
    fn asks(server: &mut Ipv6, mac: Mac, target: &str, milli: u64) -> Answer {
        let (group, packet) = ndp::solicit(mac.link_local(), mac, address(target));
        let question = frame(mac, multicast(group), &packet);
        server.answer(
            &Frame::parse(&question).unwrap(),
            Duration::from_millis(milli),
        )
    }

    /// Who sends a frame to whom, and what it says.
    fn read(frame: &[u8]) -> (Mac, Mac, Message) {
        let frame = Frame::parse(frame).unwrap();
        (
            frame.source,
            frame.destination,
            Message::parse(frame.packet).unwrap(),
        )
    }

    /// What the guest is told of an advertisement that arrives from the network.
    fn relayed(server: &Ipv6, of: &str, mac: Mac, to: &str, solicited: bool) -> Option<Vec<u8>> {
        let neighbour = Neighbour {
            address: address(of),
            mac,
            router: false,
        };
        let packet = neighbour.advertise(address(to), solicited, true);
        let arrived = frame(mac, GUEST, &packet);
        server.relayed(&Frame::parse(&arrived).unwrap())
    }

    #[test]
    fn answers_for_the_silent_and_for_nobody_else() {
        let station = || server(Speaker::Station(GATEWAY));
        let answers = |server: &mut Ipv6, target| asks(server, GUEST, target, 0).to_guest;
        assert!(answers(&mut station(), "fe80::1").is_some());
        assert!(answers(&mut station(), "2001:db8::5").is_some());
        assert!(answers(&mut server(Speaker::Itself), "fe80::1").is_none());
        assert!(answers(&mut by_global(), "fe80::1").is_none());
        // Its own, of which duplicate address detection asks; and the gateway's, which answers.
        for target in ["2001:db8::2", "2001:db8::3", "2001:db8::1"] {
            assert_eq!(asks(&mut by_global(), GUEST, target, 0), Answer::default());
            assert_eq!(asks(&mut station(), GUEST, target, 0), Answer::default());
        }
        let stranger = asks(&mut station(), SERVER, "fe80::1", 0);
        assert_eq!(stranger, Answer::default());
    }

    #[test]
    fn only_the_router_is_said_to_route() {
        let mut server = server(Speaker::Station(GATEWAY));
        for (target, router) in [("fe80::1", 0x80), ("2001:db8::5", 0)] {
            let told = asks(&mut server, GUEST, target, 0).to_guest.unwrap();
            assert_eq!(told[58] & 0x80, router, "{target}");
            let (from, to, message) = read(&told);
            assert_eq!((from, to), (GATEWAY, GUEST));
            assert_eq!(message.destination, GUEST.link_local());
        }
    }

    #[test]
    fn who_takes_the_routers_address_is_told_that_it_is_taken() {
        let mut server = server(Speaker::Station(GATEWAY));
        let (group, packet) = ndp::solicit(GUEST.link_local(), GUEST, address("fe80::1"));
        // Without an address and so without a MAC: the option is cut off.
        let cut = crate::packet::Ipv6Packet {
            source: Ipv6Addr::UNSPECIFIED,
            destination: group,
            next_header: 58,
            hop_limit: 255,
            payload: &[&[135, 0, 0, 0], &packet[44..64]].concat(),
        };
        let question = frame(GUEST, multicast(group), &cut.build(2));
        let question = Frame::parse(&question).unwrap();
        let told = server.answer(&question, Duration::ZERO).to_guest.unwrap();
        let (_, to, message) = read(&told);
        assert_eq!(to, Mac([0x33, 0x33, 0, 0, 0, 1]));
        assert_eq!(message.destination, ALL_NODES);
        let solicited = matches!(message.kind, ndp::Kind::NeighbourAdvertisement { solicited, .. } if solicited);
        assert!(!solicited);
    }

    #[test]
    fn a_gateway_is_asked_in_the_guests_name_and_at_a_rate() {
        let mut server = by_global();
        let asked = asks(&mut server, GUEST, "fe80::1", 0).to_network.unwrap();
        let (from, to, message) = read(&asked);
        assert_eq!((from, to), (GUEST, Mac([0x33, 0x33, 0xff, 0, 0, 1])));
        assert_eq!(message.source, address("2001:db8::2"));
        let target = address("2001:db8::1");
        assert_eq!(message.kind, ndp::Kind::NeighbourSolicitation { target });

        let asked = (1..10_000)
            .filter(|milli| {
                asks(&mut server, GUEST, "fe80::1", *milli)
                    .to_network
                    .is_some()
            })
            .count();
        assert_eq!(asked, 7 + 39);
    }

    #[test]
    fn the_gateways_word_is_the_routers_to_the_guest() {
        let server = by_global();
        let told = relayed(&server, "2001:db8::1", GATEWAY, "2001:db8::2", true).unwrap();
        let (from, to, message) = read(&told);
        assert_eq!((from, to), (GATEWAY, GUEST));
        assert_eq!(message.source, address("fe80::1"));
        assert_eq!(message.destination, address("2001:db8::2"));
        assert_eq!(
            message.kind,
            ndp::Kind::NeighbourAdvertisement {
                target: address("fe80::1"),
                solicited: true,
                overrides: true,
                mac: Some(GATEWAY),
            }
        );
        // It routes, though it did not say so.
        assert_eq!(told[58] & 0x80, 0x80);
        // It moved, and tells all.
        let told = relayed(&server, "2001:db8::1", SERVER, "ff02::1", false).unwrap();
        assert_eq!(read(&told).2.destination, ALL_NODES);
    }

    #[test]
    fn nothing_else_of_the_network_is_relayed() {
        let server = by_global();
        let cases = [
            ("another station", "2001:db8::9", GATEWAY, "2001:db8::2"),
            ("to another station", "2001:db8::1", GATEWAY, "2001:db8::9"),
            (
                "a MAC of many",
                "2001:db8::1",
                Mac::BROADCAST,
                "2001:db8::2",
            ),
            ("the guest's own MAC", "2001:db8::1", GUEST, "2001:db8::2"),
            ("the router itself", "fe80::1", GATEWAY, "2001:db8::2"),
        ];
        for (what, of, mac, to) in cases {
            assert_eq!(relayed(&server, of, mac, to, true), None, "{what}");
        }
        for speaker in [Speaker::Itself, Speaker::Station(GATEWAY)] {
            let server = self::server(speaker);
            assert_eq!(
                relayed(&server, "2001:db8::1", GATEWAY, "2001:db8::2", true),
                None
            );
        }
    }

    #[test]
    fn what_is_left_out_is_told_in_one_line() {
        let Some(Event::Warning { message }) = by_global().warning() else {
            panic!("thirty search domains do not fit");
        };
        assert!(message.contains("leave out search domain 18."), "{message}");
        assert!(message.contains(" and 11 more"), "{message}");
    }
}
