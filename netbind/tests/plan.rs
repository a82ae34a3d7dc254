//! What each CNI plugin's shape becomes for the guest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

use std::net::{IpAddr, Ipv4Addr};

use netbind::dhcp::SERVER_ID;
use netbind::{
    Address, DhcpOptions, GuestNetwork, MAIN_TABLE, Mac, Neighbour, Options, PlanError,
    PlumbingMacs, PodNetwork, Route, Scope, Step, TapOptions, bridge_name, dns, plan,
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
        neighbours: Vec::new(),
        bridge_netfilter: Some(true),
    }
}

fn global(address: &str) -> Address {
    Address {
        net: address.parse().unwrap(),
        scope: Scope::Global,
        secondary: false,
    }
}

/// `DESTINATION`, `DESTINATION via GATEWAY`.
fn route(text: &str) -> Route {
    let (destination, gateway) = match text.split_once(" via ") {
        Some((destination, gateway)) => (destination, Some(gateway.parse().unwrap())),
        None => (text, None),
    };
    let destination = if destination == "default" {
        "0.0.0.0/0"
    } else {
        destination
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

/// A shape's name, the pod's address and routes; the lease's address, router and classless routes.
type Shape = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
    Option<&'static str>,
    &'static [&'static str],
);

#[test]
fn every_shape_of_pod_network_becomes_a_lease_that_works() {
    let cases: &[Shape] = &[
        (
            "bridge and flannel: nothing to add to mask and router",
            "10.244.1.7/24",
            &["default via 10.244.1.1", "10.244.1.0/24"],
            "10.244.1.7/24",
            Some("10.244.1.1"),
            &[],
        ),
        (
            "flannel's cluster route goes where the default goes, and is said",
            "10.244.1.7/24",
            &[
                "default via 10.244.1.1",
                "10.244.0.0/16 via 10.244.1.1",
                "10.244.1.0/24",
            ],
            "10.244.1.7/24",
            Some("10.244.1.1"),
            &["10.244.0.0/16 via 10.244.1.1", "0.0.0.0/0 via 10.244.1.1"],
        ),
        (
            "Calico: gateway outside the subnet, its host route first",
            "192.168.9.4/32",
            &["default via 169.254.1.1", "169.254.1.1/32"],
            "192.168.9.4/32",
            Some("169.254.1.1"),
            &["169.254.1.1/32 via 0.0.0.0", "0.0.0.0/0 via 169.254.1.1"],
        ),
        (
            "the gateway is on link by a flag, with no route of its own",
            "192.168.9.4/32",
            &["default via 169.254.1.1"],
            "192.168.9.4/32",
            Some("169.254.1.1"),
            &["169.254.1.1/32 via 0.0.0.0", "0.0.0.0/0 via 169.254.1.1"],
        ),
        (
            "ptp: even the subnet's neighbours are behind the gateway",
            "10.89.0.2/24",
            &[
                "default via 10.89.0.1",
                "10.89.0.0/24 via 10.89.0.1",
                "10.89.0.1/32",
            ],
            "10.89.0.2/32",
            Some("10.89.0.1"),
            &[
                "10.89.0.1/32 via 0.0.0.0",
                "10.89.0.0/24 via 10.89.0.1",
                "0.0.0.0/0 via 10.89.0.1",
            ],
        ),
        (
            "no default route",
            "10.1.0.2/16",
            &["10.1.0.0/16"],
            "10.1.0.2/16",
            None,
            &[],
        ),
        (
            "several routes, the most exact first",
            "10.1.0.2/16",
            &[
                "default via 10.1.0.1",
                "10.1.0.0/16",
                "172.16.0.0/12 via 10.1.0.3",
                "172.16.5.0/24 via 10.1.0.4",
                "198.51.100.0/24",
            ],
            "10.1.0.2/16",
            Some("10.1.0.1"),
            &[
                "198.51.100.0/24 via 0.0.0.0",
                "172.16.5.0/24 via 10.1.0.4",
                "172.16.0.0/12 via 10.1.0.3",
                "0.0.0.0/0 via 10.1.0.1",
            ],
        ),
        (
            "everything is a neighbour",
            "10.1.0.2/32",
            &["default"],
            "10.1.0.2/32",
            None,
            &["0.0.0.0/0 via 0.0.0.0"],
        ),
    ];
    for (what, address, routes, expected_address, router, expected_routes) in cases {
        let routes: Vec<_> = routes.iter().map(|text| route(text)).collect();
        let guest = guest(&network(address, &routes));
        let lease = guest.lease;
        assert_eq!(lease.address.to_string(), *expected_address, "{what}");
        assert_eq!(
            lease.router.map(|ip| ip.to_string()).as_deref(),
            *router,
            "{what}"
        );
        let routes: Vec<_> = lease
            .routes
            .iter()
            .map(|r| format!("{} via {}", r.destination, r.router))
            .collect();
        assert_eq!(routes, *expected_routes, "{what}");
        assert_eq!(guest.warnings, Vec::<String>::new(), "{what}");
    }
}

#[test]
fn the_default_route_with_the_lowest_metric_counts() {
    let far = Route {
        metric: Some(200),
        ..route("default via 10.1.0.9")
    };
    let near = Route {
        metric: Some(100),
        ..route("default via 10.1.0.8")
    };
    let lease = guest(&network("10.1.0.2/24", &[far, near, route("10.1.0.0/24")])).lease;
    assert_eq!(lease.router, Some(Ipv4Addr::new(10, 1, 0, 8)));
    assert_eq!(lease.routes, []);
}

#[test]
fn the_smaller_of_link_and_route_mtu_counts() {
    let subnet = route("10.1.0.0/24");
    let default = |mtu| Route {
        mtu,
        ..route("default via 10.1.0.1")
    };
    let side = Route {
        mtu: Some(1280),
        ..route("172.16.0.0/12 via 10.1.0.1")
    };
    let cases = [
        ("the link's", vec![subnet.clone(), default(None)], 1450),
        (
            "the default route's",
            vec![subnet.clone(), default(Some(1400))],
            1400,
        ),
        (
            "not a larger one",
            vec![subnet.clone(), default(Some(9000))],
            1450,
        ),
        (
            "not another route's",
            vec![subnet.clone(), default(None), side.clone()],
            1450,
        ),
        (
            "any route's if there is no default",
            vec![subnet.clone(), side],
            1280,
        ),
        (
            "not one that IPv4 forbids",
            vec![subnet, default(Some(20))],
            1450,
        ),
    ];
    for (what, routes, mtu) in cases {
        let guest = guest(&network("10.1.0.2/24", &routes));
        assert_eq!((guest.mtu, guest.lease.mtu), (mtu, mtu), "{what}");
    }
}

#[test]
fn what_dhcp_cannot_say_is_left_out_with_a_warning() {
    let v6_gateway = Route {
        gateway: Some("fe80::1".parse().unwrap()),
        ..route("172.16.0.0/12 via 10.1.0.1")
    };
    let policy = Route {
        table: 100,
        ..route("203.0.113.0/24 via 10.1.0.1")
    };
    let mut network = network("10.1.0.2/24", &[route("10.1.0.0/24"), v6_gateway, policy]);
    network.addresses.push(global("10.1.0.3/24"));
    let mut options = options();
    options.hostname = Some("not a host".to_owned());
    let guest = plan(&network, &options).unwrap().guest;
    assert_eq!(guest.lease.routes, []);
    assert_eq!(guest.lease.hostname, None);
    let named = ["10.1.0.3/24", "fe80::1", "not a host"];
    assert_eq!(guest.warnings.len(), named.len(), "{:?}", guest.warnings);
    for (warning, named) in guest.warnings.iter().zip(named) {
        assert!(warning.contains(named), "{warning}");
    }
}

#[test]
fn the_lease_holds_what_resolv_conf_and_the_manifest_say() {
    let mut options = options();
    options.resolv_conf = dns::parse("nameserver 2001:db8::53\nsearch a.example long.b.example\n");
    options.dhcp.private = [(224, "x".to_owned())].into();
    let lease = plan(&network("10.1.0.2/24", &[route("10.1.0.0/24")]), &options)
        .unwrap()
        .guest
        .lease;
    assert_eq!(
        lease.dns,
        Vec::<Ipv4Addr>::new(),
        "an IPv6-only resolv.conf gives no option 6"
    );
    assert_eq!(lease.search, ["a.example", "long.b.example"]);
    assert_eq!(lease.domain.as_deref(), Some("long.b.example"));
    assert_eq!(lease.hostname.as_deref(), Some("vm"));
    assert_eq!((lease.server_id, lease.seconds), (SERVER_ID, 86_400));
    assert_eq!(lease.private, options.dhcp.private);
}

#[test]
fn static_neighbours_are_answered_for() {
    let mut network = network(
        "10.1.0.2/32",
        &[route("default via 169.254.1.1"), route("169.254.1.1/32")],
    );
    let v4 = Neighbour {
        address: "169.254.1.1".parse().unwrap(),
        mac: Mac([2; 6]),
    };
    network.neighbours = vec![
        v4,
        Neighbour {
            address: IpAddr::V6("fe80::1".parse().unwrap()),
            ..v4
        },
    ];
    assert_eq!(guest(&network).neighbours, [v4]);
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
    let no_address = PodNetwork {
        addresses: vec![global("2001:db8::1/64")],
        ..good.clone()
    };
    let small = PodNetwork {
        mtu: 67,
        ..good.clone()
    };
    let cases = [
        (
            &no_address,
            options(),
            PlanError::NoAddress("eth0".to_owned()),
        ),
        (
            &small,
            options(),
            PlanError::SmallMtu {
                interface: "eth0".to_owned(),
                mtu: 67,
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
    assert_eq!((plan.guest.mac, plan.guest.lease.client), (mac, mac));
    let pinned = Step::PinGuest {
        mac,
        port: "tap0".to_owned(),
    };
    assert_eq!(plan.steps.last(), Some(&pinned));
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
    let plan = plan(&network("10.1.0.2/24", &[route("10.1.0.0/24")]), &options()).unwrap();
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<netbind::Plan>(&json).unwrap(), plan);
}
