//! The router advertisement: an [`Ipv6Network`] in wire format.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::{HOP_LIMIT, INTERVAL_MAX, SUM_AT, kind, option};
use crate::ipv6::{Ipv6Network, Router, Speaker};
use crate::name;
use crate::packet::{ICMPV6, IPV6_HEADER, Ipv6Packet};

/// CurHopLimit: what hosts send with (RFC 4861 section 6.2.1, the assigned value).
const CUR_HOP_LIMIT: u8 = 64;
/// Flags M and O: addresses and all else come by DHCPv6.
const MANAGED: u8 = 0x80 | 0x40;
/// Flag L of a prefix. Flag A is never set: only the pod's own addresses are routed to the guest.
const ON_LINK: u8 = 0x80;
/// AdvDefaultLifetime, and the lifetime of what RFC 4191 and RFC 8106 add: three times
/// MaxRtrAdvInterval, so that two lost advertisements in a row are not noticed.
const LIFETIME: u16 = INTERVAL_MAX.as_secs() as u16 * 3;
/// AdvValidLifetime and AdvPreferredLifetime in seconds: 30 and 7 days.
const PREFIX_LIFETIMES: [u32; 2] = [2_592_000, 604_800];
/// The longest option in bytes: its length is one byte, in units of eight.
const OPTION_MAX: usize = 255 * 8;
/// Kind and length of an option, and what stands before its lifetime.
const OPTION_HEAD: usize = 8;

/// A router advertisement (RFC 4861 section 4.2), encoded once for all who ask.
#[derive(Clone, Debug)]
pub struct Advertisement {
    source: Ipv6Addr,
    payload: Vec<u8>,
    left_out: Vec<String>,
}

impl Advertisement {
    /// Encodes what a network's router says.
    ///
    /// What does not fit into one packet of the network's MTU is left out, from the least important
    /// on: search domains, name servers, routes, prefixes.
    pub fn new(network: &Ipv6Network) -> Self {
        let room = usize::try_from(network.mtu)
            .unwrap_or(usize::MAX)
            .saturating_sub(IPV6_HEADER);
        let mut writer = Writer {
            payload: Vec::with_capacity(256),
            room,
            left_out: Vec::new(),
        };
        writer.head(&network.router);
        if let Speaker::Station(mac) = network.router.speaker {
            writer.payload.extend([option::SOURCE_LINK_LAYER, 1]);
            writer.payload.extend(mac.0);
        }
        writer.payload.extend([option::MTU, 1, 0, 0]);
        writer.payload.extend(network.mtu.to_be_bytes());
        for prefix in &network.on_link {
            writer.prefix(*prefix);
        }
        for route in &network.routes {
            writer.route(*route);
        }
        writer.name_servers(&network.dns);
        writer.search(&network.search);
        Self {
            source: network.router.address,
            payload: writer.payload,
            left_out: writer.left_out,
        }
    }

    /// The advertisement as an IPv6 packet to one node, or to [`ALL_NODES`](super::ALL_NODES).
    pub fn packet(&self, destination: Ipv6Addr) -> Vec<u8> {
        Ipv6Packet {
            source: self.source,
            destination,
            next_header: ICMPV6,
            hop_limit: HOP_LIMIT,
            payload: &self.payload,
        }
        .build(SUM_AT)
    }

    /// What there was no room for, by name.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }
}

/// Appends options as long as they fit.
struct Writer {
    payload: Vec<u8>,
    room: usize,
    left_out: Vec<String>,
}

impl Writer {
    fn head(&mut self, router: &Router) {
        self.payload
            .extend([kind::ROUTER_ADVERTISEMENT, 0, 0, 0, CUR_HOP_LIMIT, MANAGED]);
        // Without a default route through it, it is a router still, of the routes below.
        let lifetime = if router.default { LIFETIME } else { 0 };
        self.payload.extend(lifetime.to_be_bytes());
        // Reachable time and retransmission timer: not specified.
        self.payload.extend([0; 8]);
    }

    /// How many bytes an option may have at most.
    fn left(&self) -> usize {
        self.room.saturating_sub(self.payload.len()).min(OPTION_MAX)
    }

    /// RFC 4861 section 4.6.2.
    fn prefix(&mut self, prefix: Ipv6Net) {
        if self.left() < 32 {
            self.left_out.push(format!("prefix {prefix}"));
            return;
        }
        self.payload
            .extend([option::PREFIX, 4, prefix.prefix_len(), ON_LINK]);
        self.payload
            .extend(PREFIX_LIFETIMES.iter().flat_map(|time| time.to_be_bytes()));
        self.payload.extend([0; 4]);
        self.payload.extend(prefix.network().octets());
    }

    /// RFC 4191 section 2.3, with medium preference.
    fn route(&mut self, route: Ipv6Net) {
        let width = route.prefix_len();
        // No more of the prefix than its length needs: 0, 8 or 16 bytes.
        let bytes = usize::from(width.div_ceil(64)) * 8;
        if self.left() < OPTION_HEAD + bytes {
            self.left_out.push(format!("route {route}"));
            return;
        }
        self.payload
            .extend([option::ROUTE, 1 + bytes as u8 / 8, width, 0]);
        self.payload.extend(u32::from(LIFETIME).to_be_bytes());
        self.payload
            .extend(route.network().octets().iter().take(bytes));
    }

    /// RFC 8106 section 5.1.
    fn name_servers(&mut self, servers: &[Ipv6Addr]) {
        let fit = self.left().saturating_sub(OPTION_HEAD) / 16;
        let (sent, left_out) = servers.split_at(fit.min(servers.len()));
        let left_out = left_out
            .iter()
            .map(|server| format!("name server {server}"));
        self.left_out.extend(left_out);
        if !sent.is_empty() {
            let octets: Vec<u8> = sent.iter().flat_map(Ipv6Addr::octets).collect();
            self.dns(option::NAME_SERVERS, &octets);
        }
    }

    /// RFC 8106 section 5.2.
    fn search(&mut self, domains: &[String]) {
        // Padding brings the option to a multiple of eight, which the room need not be.
        let fit = (self.left() / 8 * 8).saturating_sub(OPTION_HEAD);
        let mut names = Vec::new();
        for domain in domains {
            let before = names.len();
            name::encode(domain, &mut names);
            if names.len() > fit {
                names.truncate(before);
                self.left_out.push(format!("search domain {domain}"));
            }
        }
        if !names.is_empty() {
            names.resize(names.len().next_multiple_of(8), 0);
            self.dns(option::SEARCH, &names);
        }
    }

    /// An option of RFC 8106, whose value has been cut to fit and padded.
    fn dns(&mut self, option: u8, value: &[u8]) {
        let units = (OPTION_HEAD + value.len()) / 8;
        self.payload.extend([option, units as u8, 0, 0]);
        self.payload.extend(u32::from(LIFETIME).to_be_bytes());
        self.payload.extend(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ALL_NODES;
    use super::*;
    use crate::mac::Mac;

    fn network() -> Ipv6Network {
        Ipv6Network {
            addresses: vec!["2001:db8::2".parse().unwrap()],
            router: Router {
                address: "fe80::1".parse().unwrap(),
                default: true,
                speaker: Speaker::Itself,
            },
            on_link: Vec::new(),
            routes: Vec::new(),
            dns: Vec::new(),
            search: Vec::new(),
            ntp: Vec::new(),
            hostname: None,
            mtu: 1400,
            seconds: 86_400,
        }
    }

    /// The options of an advertisement: type and value, which have to fill it exactly.
    fn options(payload: &[u8]) -> Vec<(u8, &[u8])> {
        let (mut rest, mut options) = (&payload[16..], Vec::new());
        while let [tag, units, ..] = *rest {
            let (option, next) = rest.split_at(usize::from(units) * 8);
            options.push((tag, &option[2..]));
            rest = next;
        }
        assert!(rest.is_empty());
        options
    }

    #[test]
    fn says_every_value_in_its_place() {
        let advertisement = Advertisement::new(&Ipv6Network {
            on_link: vec!["2001:db8::/64".parse().unwrap()],
            routes: vec![
                "::/0".parse().unwrap(),
                "2001:db8:8000::/33".parse().unwrap(),
                "2001:db8::5/128".parse().unwrap(),
            ],
            dns: vec!["2001:db8::53".parse().unwrap(), "fd00::53".parse().unwrap()],
            search: vec!["svc.local".to_owned(), "local".to_owned()],
            ..network()
        });
        assert!(advertisement.left_out().is_empty());
        let payload = &advertisement.payload;
        // Type, code, sum; hop limit, M and O, 1800 seconds; two timers.
        assert_eq!(
            payload[..16],
            [134, 0, 0, 0, 64, 0xc0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        let options = options(payload);
        let tags: Vec<u8> = options.iter().map(|(tag, _)| *tag).collect();
        assert_eq!(tags, [5, 3, 24, 24, 24, 25, 31]);
        assert_eq!(options[0].1, [0, 0, 0, 0, 5, 0x78]);
        let prefix = options[1].1;
        assert_eq!(prefix[..2], [64, 0x80]);
        assert_eq!(prefix[2..10], [0, 0x27, 0x8d, 0, 0, 9, 0x3a, 0x80]);
        assert_eq!(prefix[14..22], [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0]);
        assert_eq!(options[2].1, [0, 0, 0, 0, 7, 8]);
        assert_eq!(
            options[3].1,
            [33, 0, 0, 0, 7, 8, 0x20, 1, 0xd, 0xb8, 0x80, 0, 0, 0]
        );
        assert_eq!(options[4].1[..2], [128, 0]);
        assert_eq!(options[4].1.len(), 22);
        let servers = options[5].1;
        assert_eq!(servers[..6], [0, 0, 0, 0, 7, 8]);
        assert_eq!((servers[21], servers[22], servers.len()), (0x53, 0xfd, 38));
        let names = b"\0\0\0\0\x07\x08\x03svc\x05local\0\x05local\0\0\0\0\0\0\0\0";
        assert_eq!(options[6].1, &names[..30]);
    }

    #[test]
    fn a_router_that_is_no_default_has_no_lifetime_but_its_routes_have() {
        let advertisement = Advertisement::new(&Ipv6Network {
            router: Router {
                default: false,
                ..network().router
            },
            routes: vec!["fd00::/8".parse().unwrap()],
            ..network()
        });
        assert_eq!(advertisement.payload[6..8], [0, 0]);
        let options = options(&advertisement.payload);
        assert_eq!(options[1].1[2..6], [0, 0, 7, 8]);
    }

    #[test]
    fn the_mac_is_named_only_where_it_is_fixed() {
        let mac = Mac([2, 0, 0, 0, 0, 0xfe]);
        let cases = [
            (Speaker::Itself, None),
            (Speaker::Gateway("2001:db8::1".parse().unwrap()), None),
            (Speaker::Station(mac), Some(&mac.0[..])),
        ];
        for (speaker, named) in cases {
            let advertisement = Advertisement::new(&Ipv6Network {
                router: Router {
                    speaker,
                    ..network().router
                },
                ..network()
            });
            let options = options(&advertisement.payload);
            let found = options.iter().find(|(tag, _)| *tag == 1);
            assert_eq!(found.map(|(_, value)| *value), named, "{speaker:?}");
        }
    }

    #[test]
    fn the_packet_comes_from_the_router_and_sums_up() {
        let advertisement = Advertisement::new(&network());
        for destination in [ALL_NODES, "fe80::2".parse().unwrap()] {
            let bytes = advertisement.packet(destination);
            let packet = Ipv6Packet::parse(&bytes).unwrap();
            assert_eq!(packet.source, network().router.address);
            assert_eq!(packet.destination, destination);
            assert_eq!((packet.next_header, packet.hop_limit), (58, 255));
            assert_eq!(packet.sum(), 0);
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        let search = (0..20).map(|i| format!("{i}.{}.example", "x".repeat(60)));
        let full = Advertisement::new(&Ipv6Network {
            mtu: 1280,
            dns: vec!["2001:db8::53".parse().unwrap(); 3],
            search: search.chain(["short".to_owned()]).collect(),
            ..network()
        });
        assert!(full.packet(ALL_NODES).len() <= 1280);
        // A shorter one behind those that are left out still fits.
        assert_eq!(full.left_out().len(), 5);
        assert!(full.left_out()[0].starts_with("search domain 15."));
        let options = options(&full.payload);
        assert!(
            options[2]
                .1
                .windows(7)
                .any(|window| window == b"\x05short\0")
        );

        // More than one option can hold, and more than one packet.
        let servers = Advertisement::new(&Ipv6Network {
            mtu: 9000,
            dns: vec!["2001:db8::53".parse().unwrap(); 130],
            ..network()
        });
        assert_eq!(servers.left_out(), ["name server 2001:db8::53"; 3]);
    }

    proptest! {
        #[test]
        fn every_option_is_whole_and_in_the_mtu(
            mtu in 1280_u32..3000,
            on_link in 0_usize..30,
            routes in proptest::collection::vec(0_u8..=128, 0..40),
            dns in 0_usize..150,
            labels in proptest::collection::vec(1_usize..60, 0..50),
        ) {
            let network = Ipv6Network {
                mtu,
                on_link: vec!["2001:db8::/64".parse().unwrap(); on_link],
                routes: routes.iter().map(|width| {
                    Ipv6Net::new("2001:db8::".parse().unwrap(), *width).unwrap()
                }).collect(),
                dns: vec!["2001:db8::53".parse().unwrap(); dns],
                search: labels.iter().map(|label| "x".repeat(*label)).collect(),
                ..network()
            };
            let advertisement = Advertisement::new(&network);
            prop_assert!(advertisement.packet(ALL_NODES).len() <= mtu as usize);
            let mut told = advertisement.left_out().len();
            for (tag, value) in options(&advertisement.payload) {
                told += match tag {
                    3 | 24 => 1,
                    25 => (value.len() - 6) / 16,
                    31 => value[6..].split(|byte| *byte == 0).filter(|name| !name.is_empty()).count(),
                    _ => 0,
                };
            }
            prop_assert_eq!(told, on_link + routes.len() + dns + labels.len());
        }
    }
}
