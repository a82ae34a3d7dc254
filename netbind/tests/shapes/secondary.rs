//! More than one interface in one pod.

use serde_json::Value;

use crate::common::guest::Guest;
use crate::common::serve::Serve;
use crate::common::{Pod, Process, assert_becomes, settled, success};
use crate::lab::{Service, settle_addresses};
use crate::{cni, take_addresses};

/// The names for a network "blue".
const BLUE: [&str; 2] = ["pod16477688c0e", "tap16477688c0e"];

/// One bound interface, and what stands behind its tap.
struct Bound {
    guest: Guest,
    _server: Serve,
    _leases: Option<Process>,
}

fn bind(pod: &Pod, tap: &str, binding: &str) -> Bound {
    let mut setup = pod.netbind(&["setup", "--json", "--tap", tap, "--binding", binding]);
    let done: Value = serde_json::from_str(&success(&mut setup)).unwrap();
    let network = &done["guest"];
    let server = Serve::start(pod);
    let guest = Guest::behind(pod, tap, network["mac"].as_str().unwrap());
    Bound {
        _leases: take_addresses(pod, &guest, network),
        _server: server,
        guest,
    }
}

#[test]
fn each_interface_has_a_binding_of_its_own() {
    let lab = (cni::DUAL_STACK.make)("eth0");
    let [device, tap] = BLUE;
    lab.peer(&format!(
        "link add blue0 type veth peer name {device} netns {}
         address add 10.81.0.1/24 dev blue0
         address add fd00:81::1/64 dev blue0 nodad
         link set blue0 up",
        lab.pod.namespace.name()
    ));
    lab.pod(&format!(
        "link set {device} up
         address add 10.81.0.5/24 dev {device}
         address add fd00:81::5/64 dev {device} nodad"
    ));
    let blue = lab.pod.by_interface(device);
    settle_addresses(&lab.pod.namespace);
    settle_addresses(&lab.peer);
    let before = settled(|| lab.dump());

    let first = bind(&lab.pod, "tap0", "masquerade");
    let second = bind(&blue, tap, "bridge");
    let services = [Service::of(&first.guest), Service::of(&second.guest)];
    let works = |bound: &Bound, reached: [&str; 2], service: &Service, own: [&str; 2]| {
        for to in reached {
            assert!(bound.guest.reaches(to), "{to}");
        }
        for address in own {
            service.answers(&lab.peer, address, "from the peer");
        }
    };
    let first_works = || {
        let peer = [crate::lab::PEER_V4, crate::lab::PEER_V6];
        works(&first, peer, &services[0], ["10.73.0.5", "fd00:73::5"]);
    };
    first_works();
    let gateway = ["10.81.0.1", "fd00:81::1"];
    works(&second, gateway, &services[1], ["10.81.0.5", "fd00:81::5"]);

    drop(second);
    success(&mut blue.netbind(&["teardown"]));
    first_works();
    drop(first);
    success(&mut lab.pod.netbind(&["teardown"]));
    assert_becomes(|| lab.dump(), &before, "teardown");
}
