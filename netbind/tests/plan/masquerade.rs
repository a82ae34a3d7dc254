//! Masquerade binding.

use std::net::IpAddr;

use netbind::ipv6::Speaker;
use netbind::{
    Address, Binding, Ipv6Settings, Masquerade, Options, Plan, PlanError, PodNetwork, Route, Step,
    dns, plan,
};

use super::{global, lease, network, options, route};

fn dual() -> PodNetwork {
    let routes = ["default via 10.1.0.1", "10.1.0.0/24", "default via fe80::1"];
    let mut network = network("10.1.0.2/24", &routes.map(route));
    network.addresses.push(global("2001:db8::2/64"));
    network
}

fn masqueraded(masquerade: Masquerade) -> Options {
    Options {
        binding: Binding::Masquerade(masquerade),
        ..options()
    }
}

fn planned(network: &PodNetwork) -> Plan {
    plan(network, &masqueraded(Masquerade::default())).unwrap()
}

fn nat(plan: &Plan) -> &netbind::Nat {
    let nat = plan.steps.iter().find_map(|step| match step {
        Step::Nat(nat) => Some(nat),
        _ => None,
    });
    nat.unwrap()
}

#[test]
fn the_guest_has_kubevirts_addresses_behind_the_bridges() {
    let plan = planned(&dual());
    let lease = lease(&plan.guest);
    assert_eq!(lease.address.to_string(), "10.0.2.2/24");
    assert_eq!(lease.router.unwrap().to_string(), "10.0.2.1");
    assert_eq!(lease.server_id.to_string(), "10.0.2.1");
    assert_eq!(lease.routes, []);
    let ipv6 = plan.guest.ipv6.as_ref().unwrap();
    assert_eq!(ipv6.addresses[0].to_string(), "fd10:0:2::2");
    assert_eq!(ipv6.router.speaker, Speaker::Itself);
    assert_eq!(ipv6.on_link[0].to_string(), "fd10:0:2::/120");
    let addresses: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Address { link, net } => Some(format!("{net} on {link}")),
            _ => None,
        })
        .collect();
    let link_local = ipv6.router.address;
    assert_eq!(
        addresses,
        [
            "10.0.2.1/24 on k6t-eth0".to_owned(),
            "fd10:0:2::1/120 on k6t-eth0".to_owned(),
            format!("{link_local}/64 on k6t-eth0"),
        ]
    );
    assert_eq!(plan.guest.warnings, Vec::<String>::new());
}

#[test]
fn the_manifests_networks_count() {
    let masquerade = Masquerade {
        ipv4: "172.30.5.0/30".parse().unwrap(),
        ipv6: "fd00:1::/126".parse().unwrap(),
        ..Masquerade::default()
    };
    let plan = plan(&dual(), &masqueraded(masquerade)).unwrap();
    assert_eq!(lease(&plan.guest).address.to_string(), "172.30.5.2/30");
    assert_eq!(
        plan.guest.ipv6.unwrap().addresses[0].to_string(),
        "fd00:1::2"
    );
}

#[test]
fn nothing_is_forwarded_before_it_is_translated() {
    let steps = planned(&dual()).steps;
    let at = |wanted: fn(&Step) -> bool| steps.iter().position(wanted).unwrap();
    let nat = at(|step| matches!(step, Step::Nat(_)));
    assert!(nat < at(|step| matches!(step, Step::Forward { .. })));
    assert!(nat < at(|step| matches!(step, Step::Up { .. })));
}

#[test]
fn a_family_that_the_pod_lacks_the_guest_lacks() {
    let mut v4 = dual();
    v4.addresses.retain(|address| address.net.addr().is_ipv4());
    let plan = planned(&v4);
    assert!(plan.guest.lease.is_some() && plan.guest.ipv6.is_none());
    assert!(nat(&plan).ipv6.is_none());
    let mut v6 = dual();
    v6.addresses.retain(|address| address.net.addr().is_ipv6());
    let plan = planned(&v6);
    assert!(plan.guest.lease.is_none() && plan.guest.ipv6.is_some());
    assert!(nat(&plan).ipv4.is_none());
}

#[test]
fn ipv6_that_cannot_be_forwarded_is_left_out_with_a_warning() {
    for (forwarding, disabled, writable, works) in [
        (false, false, false, false),
        (true, false, false, true),
        (true, true, false, false),
        (false, false, true, true),
        (false, true, true, true),
    ] {
        let network = PodNetwork {
            ipv6_settings: Some(Ipv6Settings {
                forwarding,
                disabled,
                writable,
                links: Vec::new(),
            }),
            ..dual()
        };
        let plan = planned(&network);
        let case = format!("{:?}", network.ipv6_settings);
        assert_eq!(plan.guest.ipv6.is_some(), works, "{case}");
        let warned = plan.guest.warnings.iter().any(|w| w.contains("forwarding"));
        assert_eq!(warned, !works, "{case}");
    }
}

#[test]
fn every_address_that_is_routed_to_the_pod_leads_to_the_guest() {
    let mut network = dual();
    let secondary = Address {
        secondary: true,
        ..global("10.1.0.3/24")
    };
    let deprecated = Address {
        deprecated: true,
        ..global("2001:db8::3/64")
    };
    network.addresses.extend([secondary, deprecated]);
    let plan = planned(&network);
    let nat = nat(&plan);
    let text = |addresses: Vec<IpAddr>| {
        addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let ipv4 = nat.ipv4.as_ref().unwrap().pod.iter().map(|ip| (*ip).into());
    assert_eq!(text(ipv4.collect()), ["10.1.0.2", "10.1.0.3"]);
    let ipv6 = nat.ipv6.as_ref().unwrap().pod.iter().map(|ip| (*ip).into());
    assert_eq!(text(ipv6.collect()), ["2001:db8::2", "2001:db8::3"]);
}

#[test]
fn a_network_that_hides_a_part_of_the_pods_is_refused() {
    let with_route = |text: &str| {
        let mut network = dual();
        network.routes.push(Route { ..route(text) });
        network
    };
    let mut elsewhere = dual();
    elsewhere.elsewhere.push("10.0.2.0/25".parse().unwrap());
    let mut same = dual();
    same.addresses[0] = global("10.0.2.7/16");
    let mut server = masqueraded(Masquerade::default());
    server.resolv_conf = dns::parse("nameserver 10.0.2.10\n");
    let usual = masqueraded(Masquerade::default());
    let cases = [
        (same, &usual, "vmNetworkCIDR", "10.0.2.7/16"),
        (elsewhere, &usual, "vmNetworkCIDR", "10.0.2.0/25"),
        (
            with_route("10.0.0.0/8 via 10.1.0.1"),
            &usual,
            "vmNetworkCIDR",
            "10.0.0.0/8",
        ),
        (
            with_route("fd10::/16 via fe80::1"),
            &usual,
            "vmIPv6NetworkCIDR",
            "fd10::/16",
        ),
        (dual(), &server, "vmNetworkCIDR", "10.0.2.10/32"),
    ];
    for (network, options, field, other) in cases {
        let said = plan(&network, options).unwrap_err().to_string();
        assert!(said.starts_with(field) && said.contains(other), "{said}");
    }
}

#[test]
fn refuses_networks_without_room_and_pods_without_address() {
    let small = |ipv4: &str, ipv6: &str| {
        masqueraded(Masquerade {
            ipv4: ipv4.parse().unwrap(),
            ipv6: ipv6.parse().unwrap(),
            ..Masquerade::default()
        })
    };
    for options in [
        small("172.30.0.0/31", "fd10::/120"),
        small("172.30.0.0/24", "fd10::/127"),
    ] {
        let error = plan(&dual(), &options).unwrap_err();
        assert!(matches!(error, PlanError::SmallNetwork { .. }), "{error}");
    }
    let mut bare = dual();
    bare.addresses.clear();
    let error = plan(&bare, &masqueraded(Masquerade::default())).unwrap_err();
    assert_eq!(error, PlanError::NoAddress("eth0".to_owned()));
}
