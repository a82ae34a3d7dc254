//! What each CNI plugin's shape becomes for the guest, with each binding.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

mod ipv4;
mod ipv6;
mod masquerade;

use std::net::IpAddr;

use netbind::dhcp::Lease;
use netbind::{
    Address, Binding, BridgeNetfilter, DhcpOptions, GuestNetwork, Ipv6Settings, MAIN_TABLE, Mac,
    Masquerade, Options, PlanError, PlumbingMacs, PodNetwork, Route, Scope, Step, TapOptions,
    bridge_name, dns, plan,
};

fn network(address: &str, routes: &[Route]) -> PodNetwork {
    PodNetwork {
        interface: "eth0".to_owned(),
        index: 2,
        kind: Some("veth".to_owned()),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1450,
        addresses: vec![
            global(address),
            Address {
                scope: Scope::Link,
                ..global("fe80::1/64")
            },
        ],
        routes: routes.to_vec(),
        elsewhere: Vec::new(),
        neighbours: Vec::new(),
        bridge_netfilter: Some(BridgeNetfilter {
            iptables: true,
            ip6tables: true,
            arptables: true,
        }),
        ipv4_forwarding: false,
        ipv6_settings: Some(Ipv6Settings {
            forwarding: false,
            disabled: false,
            writable: true,
            links: Vec::new(),
        }),
    }
}

fn global(address: &str) -> Address {
    Address {
        net: address.parse().unwrap(),
        scope: Scope::Global,
        secondary: false,
        deprecated: false,
        autoconfigured: false,
    }
}

/// `DESTINATION`, `DESTINATION via GATEWAY`.
fn route(text: &str) -> Route {
    let (destination, gateway) = match text.split_once(" via ") {
        Some((destination, gateway)) => (destination, Some(gateway.parse().unwrap())),
        None => (text, None),
    };
    let destination = match (destination, gateway) {
        ("default", Some(IpAddr::V6(_))) => "::/0",
        ("default", _) => "0.0.0.0/0",
        (other, _) => other,
    };
    Route {
        destination: destination.parse().unwrap(),
        gateway,
        source: None,
        scope: if gateway.is_some() {
            Scope::Global
        } else {
            Scope::Link
        },
        on_link: false,
        metric: None,
        mtu: None,
        table: MAIN_TABLE,
    }
}

fn options() -> Options {
    Options {
        binding: Binding::default(),
        tap: TapOptions {
            owner: 107,
            group: 107,
            ..TapOptions::default()
        },
        resolv_conf: dns::parse("nameserver 10.96.0.10\nsearch a.example long.b.example\n"),
        hostname: Some("vm".to_owned()),
        dhcp: DhcpOptions::default(),
        macs: PlumbingMacs::new([7; 12]),
    }
}

fn guest(network: &PodNetwork) -> GuestNetwork {
    plan(network, &options()).unwrap().guest
}

fn lease(guest: &GuestNetwork) -> &Lease {
    guest.lease.as_ref().unwrap()
}

#[test]
fn refuses_what_cannot_be_bound() {
    let good = network("10.1.0.2/24", &[route("10.1.0.0/24")]);
    let with_tap = |name: &str| {
        let mut options = options();
        options.tap.name = name.to_owned();
        options
    };
    let with_dhcp = |dhcp| Options { dhcp, ..options() };
    let private = DhcpOptions {
        private: [(100, String::new())].into(),
        ..DhcpOptions::default()
    };
    let short = DhcpOptions {
        lease_seconds: 9,
        ..DhcpOptions::default()
    };
    let everybody = DhcpOptions {
        client: Some(Mac::BROADCAST),
        ..DhcpOptions::default()
    };
    let small = PodNetwork {
        mtu: 575,
        ..good.clone()
    };
    let cases = [
        (
            &small,
            options(),
            PlanError::SmallMtu {
                interface: "eth0".to_owned(),
                mtu: 575,
            },
        ),
        (
            &good,
            with_tap("eth0"),
            PlanError::SameName("eth0".to_owned()),
        ),
        (
            &good,
            with_tap("k6t-eth0"),
            PlanError::SameName("k6t-eth0".to_owned()),
        ),
        (&good, with_tap(""), PlanError::BadName(String::new())),
        (&good, with_tap("a/b"), PlanError::BadName("a/b".to_owned())),
        (
            &good,
            with_tap("sixteen-bytes-xx"),
            PlanError::BadName("sixteen-bytes-xx".to_owned()),
        ),
        (&good, with_dhcp(private), PlanError::PrivateOption(100)),
        (&good, with_dhcp(short), PlanError::ShortLease(9)),
        (
            &good,
            with_dhcp(everybody),
            PlanError::BadMac(Mac::BROADCAST),
        ),
    ];
    for (network, options, expected) in cases {
        assert_eq!(plan(network, &options).unwrap_err(), expected);
    }
}

#[test]
fn no_port_is_attached_before_the_filter_is_there() {
    let steps = plan(&network("10.1.0.2/24", &[]), &options())
        .unwrap()
        .steps;
    let at = |wanted: fn(&Step) -> bool| steps.iter().position(wanted).unwrap();
    assert!(
        at(|step| matches!(step, Step::Filter(_))) < at(|step| matches!(step, Step::Attach { .. }))
    );
    // The last thing: only then do frames for the guest's MAC reach the tap.
    assert_eq!(
        at(|step| matches!(step, Step::PinGuest { .. })),
        steps.len() - 1
    );
}

#[test]
fn a_mac_from_the_manifest_is_the_guests() {
    let mac = Mac([0x02, 0, 0, 0, 0, 0x77]);
    let mut options = options();
    options.dhcp.client = Some(mac);
    let plan = plan(&network("10.1.0.2/24", &[]), &options).unwrap();
    assert_eq!((plan.guest.mac, lease(&plan.guest).client), (mac, mac));
    let pinned = Step::PinGuest {
        mac,
        port: "tap0".to_owned(),
    };
    assert_eq!(plan.steps.last(), Some(&pinned));
}

#[test]
fn a_macvlan_with_another_mac_is_warned_of() {
    let macvlan = PodNetwork {
        kind: Some("macvlan".to_owned()),
        ..network("10.1.0.2/24", &[])
    };
    assert_eq!(guest(&macvlan).warnings, Vec::<String>::new());
    let mut options = options();
    options.dhcp.client = Some(Mac([0x02, 0, 0, 0, 0, 0x77]));
    let warnings = plan(&macvlan, &options).unwrap().guest.warnings;
    assert!(warnings[0].contains("macvlan"), "{warnings:?}");
}

#[test]
fn bridges_are_named_as_kubevirt_names_them() {
    for (interface, bridge) in [
        ("eth0", "k6t-eth0"),
        ("net1", "k6t-net1"),
        ("pod37a8eec1ce1", "k6t-37a8eec1ce1"),
    ] {
        assert_eq!(bridge_name(interface), bridge);
    }
}

#[test]
fn a_plan_survives_json() {
    let mut network = network("10.1.0.2/24", &[route("10.1.0.0/24")]);
    network.addresses.push(global("2001:db8::2/64"));
    for binding in [
        Binding::default(),
        Binding::Masquerade(Masquerade::default()),
    ] {
        let options = Options {
            binding,
            ..options()
        };
        let plan = plan(&network, &options).unwrap();
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<netbind::Plan>(&json).unwrap(), plan);
    }
}
