//! IPv4 in bridge binding.

use std::net::Ipv4Addr;

use netbind::dhcp::SERVER_ID;
use netbind::{Address, Mac, Neighbour, Route, dns, plan};

use super::{global, guest, lease, network, options, route};

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
        let lease = lease(&guest);
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
    let guest = guest(&network("10.1.0.2/24", &[far, near, route("10.1.0.0/24")]));
    let lease = lease(&guest);
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
        assert_eq!((guest.mtu, lease(&guest).mtu), (mtu, mtu), "{what}");
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
    let secondary = Address {
        secondary: true,
        ..global("10.1.0.3/24")
    };
    network.addresses.extend([global("10.9.0.3/24"), secondary]);
    let mut options = options();
    options.hostname = Some("not a host".to_owned());
    let guest = plan(&network, &options).unwrap().guest;
    assert_eq!(lease(&guest).routes, []);
    assert_eq!(lease(&guest).hostname, None);
    let named = ["not a host", "10.9.0.3/24", "10.1.0.3/24", "fe80::1"];
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
    let guest = plan(&network("10.1.0.2/24", &[route("10.1.0.0/24")]), &options)
        .unwrap()
        .guest;
    let lease = lease(&guest);
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
            address: "fe80::1".parse().unwrap(),
            ..v4
        },
    ];
    assert_eq!(guest(&network).neighbours, network.neighbours);
}
