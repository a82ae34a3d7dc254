//! IPv6 in bridge binding.

use netbind::ipv6::Speaker;
use netbind::{Address, Mac, Neighbour, PlumbingMacs, PodNetwork, Step};

use super::{global, guest, network, options, route};

/// A pod on both families.
fn dual(address: &str, routes: &[&str]) -> PodNetwork {
    let mut routes: Vec<_> = routes.iter().map(|text| route(text)).collect();
    routes.extend([route("10.1.0.0/24"), route("fe80::/64"), route("ff00::/8")]);
    let mut network = network("10.1.0.2/24", &routes);
    network.addresses.push(global(address));
    network
}

/// A shape's name, the pod's address and routes; the router's address, none where it is ours, who
/// answers for it, whether it is a default router, neighbours' networks, further routes.
type Shape = (
    &'static str,
    &'static str,
    &'static [&'static str],
    Option<&'static str>,
    Speaker,
    bool,
    &'static [&'static str],
    &'static [&'static str],
);

#[test]
fn every_shape_of_pod_network_becomes_an_advertisement_that_works() {
    let bridge = PlumbingMacs::new([7; 12]).bridge;
    let gateway = Speaker::Gateway("2001:db8::1".parse().unwrap());
    let cases: &[Shape] = &[
        (
            "bridge: the gateway is known by a global address",
            "2001:db8::2/64",
            &["default via 2001:db8::1", "2001:db8::/64"],
            None,
            gateway,
            true,
            &["2001:db8::/64"],
            &[],
        ),
        (
            "Calico: a link-local gateway, no neighbours",
            "2001:db8::2/128",
            &["default via fe80::ecee:eeff:feee:eeee", "2001:db8::2/128"],
            Some("fe80::ecee:eeff:feee:eeee"),
            Speaker::Itself,
            true,
            &[],
            &[],
        ),
        (
            "ptp: even the subnet's neighbours are behind the gateway",
            "2001:db8::2/64",
            &[
                "default via 2001:db8::1",
                "2001:db8::/64 via 2001:db8::1",
                "2001:db8::1/128",
            ],
            None,
            gateway,
            true,
            &["2001:db8::1/128"],
            &[],
        ),
        (
            "a part of the subnet is behind the gateway",
            "2001:db8::2/64",
            &[
                "default via 2001:db8::1",
                "2001:db8::/64",
                "2001:db8::8000:0:0/68 via 2001:db8::1",
            ],
            None,
            gateway,
            true,
            &["2001:db8::/64"],
            &["2001:db8::8000:0:0/68"],
        ),
        (
            "no default route: the router of the first route",
            "2001:db8::2/64",
            &["2001:db8:1::/48 via 2001:db8::1", "2001:db8::/64"],
            None,
            gateway,
            false,
            &["2001:db8::/64"],
            &["2001:db8:1::/48"],
        ),
        (
            "no gateway at all",
            "2001:db8::2/64",
            &["2001:db8::/64"],
            None,
            Speaker::Station(bridge),
            false,
            &["2001:db8::/64"],
            &[],
        ),
    ];
    for (what, address, routes, router, speaker, default, on_link, further) in cases {
        let guest = guest(&dual(address, routes));
        let ipv6 = guest.ipv6.unwrap();
        let expected = router.map_or(bridge.link_local(), |router| router.parse().unwrap());
        assert_eq!(ipv6.router.address, expected, "{what}");
        assert_eq!(ipv6.router.speaker, *speaker, "{what}");
        assert_eq!(ipv6.router.default, *default, "{what}");
        let own = address.split('/').next().unwrap();
        assert_eq!(ipv6.addresses, [own.parse::<std::net::Ipv6Addr>().unwrap()]);
        let text =
            |nets: &[ipnet::Ipv6Net]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&ipv6.on_link), *on_link, "{what}");
        assert_eq!(text(&ipv6.routes), *further, "{what}");
        assert_eq!(guest.warnings, Vec::<String>::new(), "{what}");
    }
}

#[test]
fn a_gateway_with_a_static_neighbour_entry_is_answered_for() {
    for gateway in ["2001:db8::1", "fe80::1"] {
        let mut network = dual("2001:db8::2/128", &[&format!("default via {gateway}")]);
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        network.neighbours.push(Neighbour {
            address: gateway.parse().unwrap(),
            mac,
        });
        let router = guest(&network).ipv6.unwrap().router;
        assert_eq!(router.speaker, Speaker::Station(mac), "{gateway}");
    }
}

#[test]
fn all_lasting_addresses_are_handed_on() {
    let mut network = dual("2001:db8::2/64", &[]);
    let temporary = Address {
        secondary: true,
        ..global("2001:db8::aaaa/64")
    };
    let deprecated = Address {
        deprecated: true,
        ..global("2001:db8::bbbb/64")
    };
    network
        .addresses
        .extend([temporary, deprecated, global("2001:db8::3/64")]);
    let plan = netbind::plan(&network, &options()).unwrap();
    let text = |addresses: &[std::net::Ipv6Addr]| {
        addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        text(&plan.guest.ipv6.unwrap().addresses),
        ["2001:db8::2", "2001:db8::3"]
    );
    // The others are routed to the guest all the same.
    let allowed = plan.steps.iter().find_map(|step| match step {
        Step::Filter(filter) => filter.allowed.as_ref(),
        _ => None,
    });
    assert_eq!(
        text(&allowed.unwrap().ipv6),
        [
            "2001:db8::2",
            "2001:db8::aaaa",
            "2001:db8::bbbb",
            "2001:db8::3"
        ]
    );
}

#[test]
fn a_second_router_is_left_out_with_a_warning() {
    let routes = ["default via fe80::1", "2001:db8:9::/48 via fe80::2"];
    let guest = guest(&dual("2001:db8::2/64", &routes));
    assert_eq!(guest.ipv6.unwrap().routes, []);
    assert!(
        guest.warnings[0].contains("2001:db8:9::/48"),
        "{:?}",
        guest.warnings
    );
}

#[test]
fn a_pod_that_nobody_gave_an_address_leaves_the_guest_to_the_network() {
    let autoconfigured = Address {
        autoconfigured: true,
        ..global("2001:db8::9/64")
    };
    let temporary = Address {
        secondary: true,
        ..global("2001:db8::aaaa/64")
    };
    for made_by_the_kernel in [vec![], vec![autoconfigured, temporary]] {
        let mut network = dual("2001:db8::2/64", &[]);
        let own = network.addresses.clone();
        network
            .addresses
            .retain(|address| address.scope == netbind::Scope::Link);
        network.addresses.extend(made_by_the_kernel.clone());
        let plan = netbind::plan(&network, &options()).unwrap();
        assert_eq!((&plan.guest.lease, &plan.guest.ipv6), (&None, &None));
        assert!(
            plan.guest.warnings[0].contains("eth0"),
            "{:?}",
            plan.guest.warnings
        );
        let served = plan.steps.iter().find_map(|step| match step {
            Step::Filter(filter) => Some(filter.served),
            _ => None,
        });
        assert_eq!(served, Some(false));

        // Beside one that somebody gave it is the guest's as well.
        network.addresses.extend(own);
        let ipv6 = guest(&network).ipv6.unwrap();
        let lasting = made_by_the_kernel.iter().filter(|made| !made.secondary);
        assert_eq!(ipv6.addresses.len(), 1 + lasting.count());
    }
}

#[test]
fn a_pod_on_ipv6_alone_gets_no_lease() {
    let mut network = dual("2001:db8::2/64", &["default via fe80::1"]);
    network
        .addresses
        .retain(|address| address.net.addr().is_ipv6());
    let guest = guest(&network);
    assert!(guest.lease.is_none() && guest.ipv6.is_some());
}
