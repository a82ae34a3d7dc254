//! What a guest sends to the addresses that bridges keep for themselves does not reach the pod's own
//! IP stack.

use std::net::UdpSocket;

use super::{DOUBT, GUEST_V4, ROUTER_V4, bind, bound};
use crate::common::success;
use crate::lan::frame::{self, Mac, mac};
use crate::lan::wire::Wire;
use crate::lan::{Lan, POD_MAC, POD_V4};

const PORTS: &[&str] = &["--port", "8080"];

/// A service of the pod's that is not the guest's, and a guest that calls it.
struct Secret {
    socket: UdpSocket,
    guest: Wire,
}

impl Secret {
    fn of(lan: &Lan) -> Self {
        let pod = &lan.pod.namespace;
        let socket = pod.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(DOUBT)).unwrap();
        let guest = Wire::behind(pod, "tap0");
        Self { socket, guest }
    }

    /// The guest calls it by an address.
    fn call(&mut self, station: Mac, address: &str) {
        let at = self.socket.local_addr().unwrap().port();
        let datagram = frame::udp(4000, at, b"whisper");
        let [from, to] = [GUEST_V4, address].map(|address| address.parse().unwrap());
        let packet = frame::ipv4(from, to, 17, &datagram);
        let frame = frame::ethernet(station, mac(POD_MAC), 0x0800, &packet);
        self.guest.send(&frame);
    }

    /// Whether it is heard.
    fn hears(&mut self, station: Mac, address: &str) -> bool {
        self.call(station, address);
        self.is_heard()
    }

    /// Whether any call was.
    fn is_heard(&self) -> bool {
        self.socket.recv(&mut [0; 16]).is_ok()
    }
}

/// Takes these chains' rules away.
fn flush(lan: &Lan, chains: &[&str]) {
    for chain in chains {
        let mut flush = lan.pod.namespace.command("nft");
        success(flush.args(["flush", "chain"]).args(chain.split(' ')));
    }
}

/// Lets frames to the groups by, as if the bridge had no rules.
fn open(lan: &Lan) {
    flush(lan, &["bridge k6t-eth0 guest", "bridge k6t-eth0 local"]);
    lan.pod
        .namespace
        .ip("link set k6t-eth0 type bridge group_fwd_mask 0");
}

#[test]
fn the_pods_own_stack_hears_nothing_of_the_guest_but_by_the_bridge() {
    let lan = bound(PORTS);
    let mut secret = Secret::of(&lan);
    let own = mac(POD_MAC);
    let learns = |secret: &mut Secret, last: u8| {
        let [asking, asked] = ["10.0.2.77", ROUTER_V4].map(|address| address.parse().unwrap());
        let asks = frame::arp(own, 1, (own, asking), (own, asked));
        secret.guest.send(&frame::to(frame::group(last), &asks));
        let shown = lan.pod.namespace.ip("neigh show dev tap0 nud all");
        shown.contains("10.0.2.77")
    };
    for last in 0..16 {
        for address in [POD_V4, ROUTER_V4] {
            secret.call(frame::group(last), address);
        }
        assert!(!learns(&mut secret, last), "by the group {last:x}");
    }
    assert!(!secret.is_heard());
    // Of IP there is a second guard.
    open(&lan);
    for last in 0..16 {
        secret.call(frame::group(last), POD_V4);
    }
    assert!(!secret.is_heard());
    // But for these rules the way is open.
    assert!(learns(&mut secret, 0xe));
    flush(&lan, &["inet k6t-eth0 arriving"]);
    for last in [2, 3, 0xe] {
        let heard = secret.hears(frame::group(last), POD_V4);
        assert!(heard, "by the group {last:x}");
    }
}

#[test]
fn a_connection_that_the_guest_made_with_the_pod_is_not_answered_traffic() {
    let lan = bound(PORTS);
    let mut secret = Secret::of(&lan);
    let state = netbind::State::read(&lan.pod.state()).unwrap().unwrap();
    let bridge = state.guest.server_mac.0;
    // One was made, however it was: the pod has answered.
    flush(&lan, &["inet k6t-eth0 router"]);
    assert!(secret.hears(bridge, ROUTER_V4));
    let answered = secret.socket.send_to(b"answer", (GUEST_V4, 4000)).unwrap();
    assert_eq!(answered, 6);
    bind(&lan, PORTS);
    assert!(!secret.hears(bridge, ROUTER_V4));
}
