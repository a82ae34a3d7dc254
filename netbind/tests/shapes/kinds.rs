//! Kinds of link that are taken or refused for what they are, made where the kernel can make them.

use std::io::{Write, stderr};

use crate::common::{Pod, assert_becomes, settled, success, text};

/// How ip(8) makes `eth0`, with `far` to stand on; a part of what is said of it, or none where it is
/// taken.
const KINDS: &[(&str, Option<&str>)] = &[
    (
        "link add link far name eth0 type ipvlan mode l2",
        Some("eth0 is of kind ipvlan, which shares one MAC"),
    ),
    (
        "link add link far name eth0 type ipvlan mode l3",
        Some("eth0 is of kind ipvlan, which shares one MAC"),
    ),
    (
        "link add link far name eth0 type ipvtap mode l2",
        Some("eth0 is of kind ipvtap, which shares one MAC"),
    ),
    (
        "link add eth0 type netkit",
        Some("eth0 is a netkit device in layer-3 mode"),
    ),
    ("link add eth0 type netkit mode l2", None),
    ("link add link far name eth0 type macvlan mode bridge", None),
    ("tuntap add eth0 mode tun", NO_MAC),
    (
        "link add eth0 type ipip local 10.0.0.1 remote 10.0.0.2",
        NO_MAC,
    ),
    (
        "link add eth0 type sit local 10.0.0.1 remote 10.0.0.2",
        NO_MAC,
    ),
    (
        "link add eth0 type gre local 10.0.0.1 remote 10.0.0.2",
        NO_MAC,
    ),
    ("link add eth0 type wireguard", NO_MAC),
];
const NO_MAC: Option<&str> = Some("eth0 has no unicast MAC address");

#[test]
fn a_link_without_a_mac_of_its_own_is_refused_and_left_alone() {
    let mut unknown = Vec::new();
    for (make, refused) in KINDS {
        let pod = Pod::by_hand("eth0");
        pod.namespace.ip("link add far type veth peer name further");
        let mut ip = pod.namespace.command("ip");
        let made = ip.args(make.split_whitespace()).output().unwrap();
        if !made.status.success() {
            // The kernel's answer, and that of an ip(8) which is older than the kind.
            let said = text(&made);
            let reasons = ["Unknown device type", "not supported", "Garbage"];
            assert!(
                reasons.iter().any(|reason| said.contains(reason)),
                "{make}: {said}"
            );
            unknown.extend(make.split(" type ").nth(1));
            continue;
        }
        for link in ["far", "further", "eth0"] {
            pod.namespace.ip(&format!("link set {link} up"));
        }
        let Some(refused) = refused else {
            success(&mut pod.netbind(&["plan"]));
            continue;
        };
        let before = settled(|| pod.namespace.dump());
        let output = pod.netbind(&["setup"]).output().unwrap();
        let said = text(&output);
        assert!(!output.status.success(), "{make}");
        assert_eq!(said.lines().count(), 1, "{make}: {said}");
        assert!(said.contains(refused), "{make}: {said}");
        assert_becomes(|| pod.namespace.dump(), &before, make);
    }
    if !unknown.is_empty() {
        // Past libtest, which keeps to itself what a test prints that passes.
        let unknown = unknown.join(", ");
        writeln!(stderr(), "skipped: not in this kernel or ip(8): {unknown}").unwrap();
    }
}
