//! The binding on real pod networks, with real DHCP clients behind the tap.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

mod common;

use std::process::Command;

use common::guest::{GUEST_LINK, Guest};
use common::serve::Serve;
use common::{Pod, Process, assert_becomes, settled, success, text, wait_until};
use serde_json::Value;

/// Binds the pod, boots a guest that gets its lease by udhcpc, and takes everything back.
fn binds_and_lets_go(pod: &Pod) -> String {
    let before = settled(|| pod.namespace.dump());
    let mac = pod.mac();
    success(&mut pod.netbind(&["setup"]));
    let server = Serve::start(pod);
    let guest = Guest::behind(pod, "tap0", &mac);
    let told = guest.udhcpc(pod.dir.path());

    assert!(told.contains(&format!("ip={}\n", pod.address())), "{told}");
    let acked = server.event("acked");
    assert_eq!(
        (acked["client"].as_str(), acked["address"].as_str()),
        (Some(&*mac), Some(pod.address()))
    );
    assert!(
        guest.reaches(pod.gateway()),
        "the guest reaches its gateway"
    );
    assert!(
        pod.node_reaches(pod.address()),
        "the node reaches the guest"
    );
    wait_until("the guest's IPv6 address is settled", || {
        !guest.namespace.ip("addr").contains("tentative")
    });
    assert!(
        !guest.namespace.ip("addr").contains("dadfailed"),
        "no reflected frame comes back"
    );
    pod.cni("CHECK").expect("CHECK while bound");
    // Once more: nothing changes.
    let bound = settled(|| pod.namespace.dump());
    success(&mut pod.netbind(&["setup"]));
    assert_becomes(|| pod.namespace.dump(), &bound, "a second set-up");
    assert!(
        guest.reaches(pod.gateway()),
        "the guest reaches its gateway after a second set-up"
    );

    drop((guest, server));
    success(&mut pod.netbind(&["teardown"]));
    assert_becomes(|| pod.namespace.dump(), &before, "teardown");
    assert!(
        pod.node_reaches(pod.address()),
        "the pod has its address back"
    );
    assert!(!pod.state().exists());
    success(&mut pod.netbind(&["teardown"]));
    pod.cni("CHECK").expect("CHECK after teardown");
    pod.cni("DEL").expect("DEL");
    told
}

#[test]
fn binds_a_pod_of_the_bridge_plugin() {
    let told = binds_and_lets_go(&Pod::on_bridge());
    for expected in [
        "mtu=1400",
        "router=10.88.0.1",
        "dns=10.96.0.10",
        "mask=24",
        "serverid=169.254.75.10",
        "lease=86400",
    ] {
        assert!(told.contains(expected), "{expected} in {told}");
    }
    assert!(
        told.contains("search=svc.cluster.local cluster.local"),
        "{told}"
    );
    assert!(!told.contains("staticroutes"), "{told}");
}

#[test]
fn binds_a_pod_of_the_ptp_plugin() {
    let told = binds_and_lets_go(&Pod::on_ptp());
    assert!(told.contains("mask=32"), "{told}");
    assert!(
        told.contains(
            "staticroutes=10.88.0.1/32 0.0.0.0 10.88.0.0/24 10.88.0.1 0.0.0.0/0 10.88.0.1"
        ),
        "{told}"
    );
}

#[test]
fn del_succeeds_while_bound() {
    for pod in [Pod::on_bridge(), Pod::on_ptp()] {
        success(&mut pod.netbind(&["setup"]));
        pod.cni("DEL").expect("DEL while bound");
        assert!(!pod.namespace.ip("link").contains("eth0@"));
        success(&mut pod.netbind(&["teardown"]));
        assert!(!pod.namespace.ip("link").contains("k6t-eth0"));
    }
}

#[test]
fn dhclient_gets_every_option() {
    let pod = Pod::on_bridge();
    let args = [
        "setup",
        "--hostname",
        "vm-1",
        "--ntp-server",
        "192.0.2.9",
        "--private-option",
        "230=x",
    ];
    success(&mut pod.netbind(&args));
    let _server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", &pod.mac());
    let told = guest.dhclient(pod.dir.path());
    let expected = [
        format!("new_ip_address={}", pod.address()),
        "new_subnet_mask=255.255.255.0".to_owned(),
        "new_routers=10.88.0.1".to_owned(),
        "new_domain_name_servers=10.96.0.10".to_owned(),
        "new_domain_name=svc.cluster.local".to_owned(),
        "new_domain_search=svc.cluster.local. cluster.local.".to_owned(),
        "new_host_name=vm-1".to_owned(),
        "new_interface_mtu=1400".to_owned(),
        "new_ntp_servers=192.0.2.9".to_owned(),
        "new_dhcp_lease_time=86400".to_owned(),
    ];
    for line in &expected {
        assert!(told.lines().any(|told| told == line), "{line} in {told}");
    }
}

#[test]
fn renews_through_restarts_of_the_server_and_a_tap_that_was_down() {
    let pod = Pod::on_bridge();
    success(&mut pod.netbind(&["setup", "--lease-seconds", "10"]));
    let server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", &pod.mac());
    let _client = guest.hold_lease(pod.dir.path());
    server.event("offered");
    server.event("acked");
    pod.namespace.ip("link set tap0 down");
    pod.namespace.ip("link set tap0 up");
    // At half the lease, by unicast.
    server.event("acked");
    drop(server);
    let server = Serve::start(&pod);
    server.event("acked");
}

#[test]
fn no_dhcp_leaves_the_pod_and_none_enters() {
    let pod = Pod::on_bridge();
    success(&mut pod.netbind(&["setup"]));
    let captured = pod.dir.path().join("dhcp.pcap");
    let tcpdump = Process::start(
        pod.node
            .command("tcpdump")
            .args(["-i", "cni0", "-U", "-w"])
            .arg(&captured)
            .arg("udp port 67 or udp port 68"),
    );
    wait_until("tcpdump captures", || {
        captured.metadata().is_ok_and(|file| file.len() >= 24)
    });
    let _server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", &pod.mac());
    guest.udhcpc(pod.dir.path());
    // The wire is alive, so what was sent before would have been seen by now.
    assert!(guest.reaches(pod.gateway()));
    drop(tcpdump);
    // The file's header alone.
    assert_eq!(captured.metadata().unwrap().len(), 24);
}

#[test]
fn a_guest_with_a_mac_of_its_own_is_served_and_reached() {
    const MAC: &str = "02:00:00:00:00:77";
    for pod in [Pod::on_bridge(), Pod::on_ptp()] {
        success(&mut pod.netbind(&["setup", "--guest-mac", MAC]));
        let _server = Serve::start(&pod);
        let guest = Guest::behind(&pod, "tap0", MAC);
        guest.udhcpc(pod.dir.path());
        assert!(guest.reaches(pod.gateway()));
        assert!(pod.node_reaches(pod.address()));
        pod.cni("CHECK").expect("CHECK while bound");
    }
}

#[test]
fn another_client_behind_the_tap_gets_nothing() {
    let pod = Pod::on_bridge();
    success(&mut pod.netbind(&["setup"]));
    let _server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", "02:00:00:00:99:99");
    let mut client = guest.namespace.command("udhcpc");
    let output = client
        .args([
            "-i",
            GUEST_LINK,
            "-n",
            "-q",
            "-f",
            "-t",
            "2",
            "-T",
            "1",
            "-s",
            "/bin/true",
        ])
        .output()
        .unwrap();
    assert!(!output.status.success(), "{}", text(&output));
}

#[test]
fn a_state_file_of_another_namespace_is_not_believed() {
    let (old, new) = (Pod::on_bridge(), Pod::on_bridge());
    success(&mut old.netbind(&["setup"]));
    std::fs::copy(old.state(), new.state()).unwrap();
    let done: Value =
        serde_json::from_str(&success(&mut new.netbind(&["setup", "--json"]))).unwrap();
    assert_eq!(done["guest"]["mac"], *new.mac());
}

#[test]
fn a_teardown_by_another_pods_state_file_changes_nothing() {
    let (one, other) = (Pod::on_bridge(), Pod::on_bridge());
    success(&mut one.netbind(&["setup"]));
    success(&mut other.netbind(&["setup"]));
    let bound = settled(|| one.namespace.dump());
    std::fs::copy(other.state(), one.state()).unwrap();
    success(&mut one.netbind(&["teardown"]));
    assert_becomes(|| one.namespace.dump(), &bound, "the pod is still bound");
    assert!(!one.state().exists(), "the file is gone");
}

#[test]
fn the_rights_of_a_container_are_enough() {
    for binding in ["bridge", "masquerade"] {
        let pod = Pod::on_bridge();
        let before = settled(|| pod.namespace.dump());
        // As the kubelet starts the launcher: /proc/sys read-only, few capabilities.
        let contained = |arguments: &[&str]| {
            let command = pod.netbind(arguments);
            let script = "mount --bind -o ro /proc/sys /proc/sys && exec nsenter --net=\"$0\" \
                          setpriv --bounding-set=-all,+net_admin,+net_raw \"$@\"";
            let mut contained = Command::new("unshare");
            contained
                .args(["--mount", "sh", "-c", script])
                .arg(pod.namespace.path());
            // Without --netns PATH: entering a namespace needs a right that no pod has.
            contained
                .arg(command.get_program())
                .args(command.get_args().skip(2));
            success(&mut contained);
        };
        contained(&["setup", "--binding", binding]);
        let server = Serve::start(&pod);
        let guest = Guest::behind(&pod, "tap0", &pod.mac());
        guest.udhcpc(pod.dir.path());
        assert!(guest.reaches(pod.gateway()), "{binding}");
        drop((guest, server));
        contained(&["teardown"]);
        assert_becomes(|| pod.namespace.dump(), &before, "teardown");
    }
}

#[test]
fn a_dropping_forward_policy_in_the_pod_does_not_stop_the_guest() {
    let pod = Pod::on_bridge();
    let policy = "add table ip f; add chain ip f forward { type filter hook forward priority 0; policy drop; }";
    success(pod.namespace.command("nft").arg(policy));
    let before = settled(|| pod.namespace.dump());
    success(&mut pod.netbind(&["setup"]));
    let _server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", &pod.mac());
    guest.udhcpc(pod.dir.path());
    assert!(guest.reaches(pod.gateway()));
    success(&mut pod.netbind(&["teardown"]));
    assert_becomes(|| pod.namespace.dump(), &before, "teardown");
}

#[test]
fn discover_shows_what_the_plugin_made_bound_or_not() {
    let pod = Pod::on_ptp();
    let discover = || success(&mut pod.netbind(&["discover", "--json"]));
    let before = discover();
    let found: Value = serde_json::from_str(&before).unwrap();
    assert_eq!(
        (found["interface"].as_str(), found["mtu"].as_u64()),
        (Some("eth0"), Some(1450))
    );
    assert_eq!(found["mac"], *pod.mac());
    assert_eq!(
        found["addresses"][0]["net"],
        format!("{}/24", pod.address())
    );
    assert_eq!(found["routes"][0]["gateway"], pod.gateway());
    success(&mut pod.netbind(&["setup"]));
    let mut after: Value = serde_json::from_str(&discover()).unwrap();
    // What the binding changes: the namespace's settings, and its links.
    after["bridge_netfilter"] = found["bridge_netfilter"].clone();
    after["ipv6_settings"]["links"] = found["ipv6_settings"]["links"].clone();
    assert_eq!(after, found);
    let human = success(&mut pod.netbind(&["discover"]));
    assert!(human.starts_with("interface  eth0 (veth)"), "{human}");
}

#[test]
fn static_neighbours_metrics_and_route_mtu_are_discovered() {
    let pod = Pod::on_bridge();
    pod.namespace
        .ip("neigh add 10.88.0.1 lladdr 02:00:00:00:00:fe dev eth0 nud permanent");
    pod.namespace
        .ip("route add 172.16.0.0/12 via 10.88.0.1 metric 77 mtu 1300");
    pod.namespace
        .ip("route add 198.51.100.0/24 via 203.0.113.1 dev eth0 onlink table 55");
    let found: Value =
        serde_json::from_str(&success(&mut pod.netbind(&["discover", "--json"]))).unwrap();
    assert_eq!(found["neighbours"][0]["mac"], "02:00:00:00:00:fe");
    let routes = found["routes"].as_array().unwrap();
    let route = |destination: &str| {
        routes
            .iter()
            .find(|route| route["destination"] == destination)
            .unwrap()
    };
    let metered = route("172.16.0.0/12");
    assert_eq!(
        (metered["metric"].as_u64(), metered["mtu"].as_u64()),
        (Some(77), Some(1300))
    );
    let other_table = route("198.51.100.0/24");
    assert_eq!(
        (
            other_table["table"].as_u64(),
            other_table["on_link"].as_bool()
        ),
        (Some(55), Some(true))
    );

    // A gateway that answers no ARP: the guest is told by us.
    success(&mut pod.netbind(&["setup"]));
    let _server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", &pod.mac());
    guest.udhcpc(pod.dir.path());
    pod.node.ip("link set cni0 arp off");
    guest.reaches(pod.gateway());
    assert!(
        guest
            .namespace
            .ip("neigh")
            .contains("10.88.0.1 dev ens3 lladdr 02:00:00:00:00:fe")
    );
}
