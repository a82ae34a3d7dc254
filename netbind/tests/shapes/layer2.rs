//! A pod whose interface has no address: the guest is on the network as if it were plugged in.

use crate::common::guest::Guest;
use crate::common::serve::Serve;
use crate::common::{Namespace, Process, assert_becomes, settled, success, text, wait_until};
use crate::lab::{Lab, PEER_V4, PEER_V6, Service, settle_addresses};
use crate::late::dnsmasq;

/// A pod on a network without servers so far; what its kernel makes of a router (`accept_ra`).
fn plugged_in(accept_ra: &str) -> Lab {
    let lab = Lab::new("net1");
    lab.node(
        "link set pod0 up
         address add 10.79.0.1/24 dev pod0
         address add fd00:79::1/64 dev pod0 nodad",
    );
    lab.pod
        .namespace
        .sysctl("ipv6/conf/net1/accept_ra", accept_ra);
    lab.pod("link set net1 up");
    settle_addresses(&lab.pod.namespace);
    settle_addresses(&lab.pod.node);
    lab
}

/// The network's DHCP server and router.
fn servers(lab: &Lab) -> Process {
    dnsmasq(
        lab,
        &[
            "--dhcp-range=10.79.0.5,10.79.0.5,255.255.255.0",
            "--enable-ra",
            "--dhcp-range=fd00:79::,ra-only",
        ],
    )
}

fn has_an_address_of_slaac(namespace: &Namespace) -> bool {
    let addresses = namespace.ip("-6 address show");
    addresses.contains("fd00:79::") && !addresses.contains("tentative")
}

#[test]
fn the_networks_own_servers_serve_the_guest() {
    let lab = plugged_in("0");
    let before = settled(|| lab.dump());
    let servers = servers(&lab);
    success(&mut lab.pod.netbind(&["setup"]));
    are_the_guests(&lab, servers, &before);
}

#[test]
fn they_do_where_the_pods_kernel_has_an_address_of_the_router() {
    let lab = plugged_in("1");
    let servers = servers(&lab);
    wait_until("the pod has an address of SLAAC", || {
        has_an_address_of_slaac(&lab.pod.namespace)
    });
    let before = settled(|| lab.dump());
    success(&mut lab.pod.netbind(&["setup"]));
    are_the_guests(&lab, servers, &before);
}

#[test]
fn they_do_where_they_come_after_set_up() {
    let lab = plugged_in("1");
    let before = settled(|| lab.dump());
    success(&mut lab.pod.netbind(&["setup"]));
    are_the_guests(&lab, servers(&lab), &before);
}

/// Has a guest served by the network, and takes everything back.
fn are_the_guests(lab: &Lab, servers: Process, before: &str) {
    let server = Serve::start(&lab.pod);
    let guest = Guest::behind(&lab.pod, "tap0", &lab.pod.mac());
    let told = guest.udhcpc(lab.pod.dir.path());
    assert!(told.contains("ip=10.79.0.5\n"), "{told}");
    assert!(told.contains("serverid=10.79.0.1\n"), "{told}");
    wait_until("the guest has an address of SLAAC", || {
        has_an_address_of_slaac(&guest.namespace)
    });
    for to in ["10.79.0.1", PEER_V4, "fd00:79::1", PEER_V6] {
        assert!(guest.reaches(to), "{to}");
    }
    Service::of(&guest).answers(&lab.peer, "10.79.0.5", "from the peer");

    // Where the pod's kernel heeds a router, it would do so again.
    drop((guest, server, servers));
    success(&mut lab.pod.netbind(&["teardown"]));
    assert_becomes(|| lab.dump(), before, "teardown");
}

#[test]
fn there_is_nothing_to_masquerade_behind() {
    let lab = plugged_in("0");
    let before = settled(|| lab.dump());
    let mut setup = lab.pod.netbind(&["setup", "--binding", "masquerade"]);
    let output = setup.output().unwrap();
    let said = text(&output);
    assert!(!output.status.success());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("net1 has no address"), "{said}");
    assert_becomes(|| lab.dump(), &before, "a refusal");
}
