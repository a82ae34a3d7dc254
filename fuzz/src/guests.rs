//! The networks that the guest's servers are asked about.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use netbind::dhcp::{ClasslessRoute, LEASE_SECONDS, Lease, SERVER_ID};
use netbind::ipv6::{Ipv6Network, Router, Speaker};
use netbind::serve::Sockets;
use netbind::{Binding, GuestNetwork, Mac, Neighbour};

/// The guest in captured frames.
pub const MAC: Mac = Mac([0x02, 0, 0, 0, 0, 1]);
/// The servers'.
pub const SERVER_MAC: Mac = Mac([0x0a, 0, 0, 0, 0, 2]);
/// The gateway's, where it is known.
const GATEWAY_MAC: Mac = Mac([0x0e, 0, 0, 0, 0, 3]);

/// A lease as most pods have it.
pub fn lease(client: Mac) -> Lease {
    let router = Ipv4Addr::new(10, 244, 0, 1);
    Lease {
        client,
        address: net([10, 244, 0, 7], 24),
        router: Some(router),
        routes: Vec::new(),
        dns: vec![Ipv4Addr::new(10, 96, 0, 10)],
        search: ["default.svc.cluster.local", "svc.cluster.local"]
            .map(String::from)
            .to_vec(),
        domain: Some("default.svc.cluster.local".to_owned()),
        hostname: Some("vm".to_owned()),
        mtu: 1450,
        ntp: Vec::new(),
        tftp_server_name: None,
        boot_file_name: None,
        private: Default::default(),
        server_id: SERVER_ID,
        seconds: LEASE_SECONDS,
    }
}

/// A lease with more options than any message holds, on the link with the largest packets.
pub fn overfull_lease(client: Mac) -> Lease {
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let routes = (0..100).map(|i| ClasslessRoute {
        destination: net([10, i, 0, 0], 16),
        router: gateway,
    });
    Lease {
        address: net([192, 168, 9, 9], 32),
        router: Some(gateway),
        routes: routes.collect(),
        dns: (1..=70).map(|i| Ipv4Addr::new(10, 96, 0, i)).collect(),
        search: (0..20)
            .map(|i| format!("namespace-{i}.svc.cluster.local"))
            .collect(),
        mtu: 65535,
        ntp: vec![gateway],
        tftp_server_name: Some("t".repeat(300)),
        boot_file_name: Some("b".repeat(300)),
        private: (224..=231)
            .map(|code| (code, "private".repeat(40)))
            .collect(),
        seconds: u32::MAX,
        ..lease(client)
    }
}

/// A DISCOVER that takes the longest messages and asks for search domains.
pub fn discover(client: Mac) -> Vec<u8> {
    let mut message = vec![0; 236];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&client.0);
    message.extend([
        99, 130, 83, 99, 53, 1, 1, 57, 2, 255, 255, 55, 2, 6, 119, 255,
    ]);
    message
}

/// A network as most pods with IPv6 have it.
pub fn ipv6() -> Ipv6Network {
    Ipv6Network {
        addresses: vec![global(7)],
        router: Router {
            address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
            default: true,
            speaker: Speaker::Itself,
        },
        on_link: vec![Ipv6Net::new_assert(global(0), 64)],
        routes: Vec::new(),
        dns: vec![global(10)],
        search: vec!["default.svc.cluster.local".to_owned()],
        ntp: Vec::new(),
        hostname: Some("vm".to_owned()),
        mtu: 1450,
        seconds: LEASE_SECONDS,
    }
}

/// A network with more to tell than a packet holds.
pub fn overfull_ipv6() -> Ipv6Network {
    Ipv6Network {
        addresses: (1..=50).map(global).collect(),
        routes: (0..20)
            .map(|i| Ipv6Net::new_assert(global(i), 128))
            .collect(),
        dns: (0..20).map(global).collect(),
        search: (0..20)
            .map(|i| format!("namespace-{i}.svc.cluster.local"))
            .collect(),
        ntp: (0..20).map(global).collect(),
        hostname: Some("h".repeat(63)),
        mtu: 1280,
        seconds: u32::MAX,
        ..ipv6()
    }
}

/// Networks that are served in different ways: with a router that answers for itself, with one that
/// we answer for, with one that is asked for the guest, and without IPv4.
pub fn networks() -> Vec<GuestNetwork> {
    let speakers = [
        Speaker::Itself,
        Speaker::Station(GATEWAY_MAC),
        Speaker::Gateway(global(1)),
    ];
    speakers
        .into_iter()
        .enumerate()
        .map(|(at, speaker)| {
            let mut ipv6 = if at == 1 { overfull_ipv6() } else { ipv6() };
            ipv6.router.speaker = speaker;
            GuestNetwork {
                interface: "eth0".to_owned(),
                bridge: "k6t-eth0".to_owned(),
                tap: "tap0".to_owned(),
                mac: MAC,
                mtu: ipv6.mtu,
                server_mac: SERVER_MAC,
                lease: (at < 2).then(|| Lease {
                    mtu: ipv6.mtu,
                    ..lease(MAC)
                }),
                ipv6: Some(ipv6),
                neighbours: vec![
                    Neighbour {
                        address: Ipv4Addr::new(169, 254, 1, 1).into(),
                        mac: GATEWAY_MAC,
                    },
                    Neighbour {
                        address: global(1).into(),
                        mac: GATEWAY_MAC,
                    },
                ],
                binding: Binding::default(),
                warnings: Vec::new(),
            }
        })
        .collect()
}

/// What stands for a server's sockets where it is asked by calls.
pub fn no_sockets() -> Sockets {
    let null = || File::options().read(true).write(true).open("/dev/null");
    Sockets {
        tap: null().expect("/dev/null is always there").into(),
        uplink: None,
    }
}

fn global(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)
}

fn net(address: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address.into(), prefix)
}
