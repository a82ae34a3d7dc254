//! What is sent to the addresses that bridges keep for themselves does not reach the pod's own IP
//! stack, as if it had come to the port and not to the bridge.

use std::net::{SocketAddr, UdpSocket};

use crate::common::{PATIENCE, success};
use crate::frames::probe;
use crate::lan::frame::{self, mac};
use crate::lan::wire::Wire;
use crate::lan::{Lan, NODE_V4, POD_MAC, POD_V4};
use crate::{Guard, ipv4, ipv6};

/// A service of the pod's.
struct Secret {
    socket: UdpSocket,
    at: SocketAddr,
}

impl Secret {
    fn of(lan: &Lan) -> Self {
        let socket = lan.pod.namespace.within(|| {
            // Whatever comes is to be heard, from wherever.
            UdpSocket::bind((ipv4(POD_V4), 0)).unwrap()
        });
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let at = socket.local_addr().unwrap();
        Self { socket, at }
    }

    /// A datagram to it, from a station.
    fn call(&self, from: frame::Mac) -> Vec<u8> {
        let datagram = frame::udp(4000, self.at.port(), b"whisper");
        let packet = frame::ipv4(ipv4(NODE_V4), ipv4(POD_V4), 17, &datagram);
        frame::ethernet(mac(POD_MAC), from, 0x0800, &packet)
    }

    /// What it heard first, before what the pod says to itself now.
    fn heard(&self, lan: &Lan) -> String {
        let pod = &lan.pod.namespace;
        let caller = pod.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        caller.send_to(b"after", self.at).unwrap();
        let mut heard = [0; 16];
        let length = self.socket.recv(&mut heard).unwrap();
        let first = String::from_utf8(heard[..length].into()).unwrap();
        while &heard[..5] != b"after" {
            self.socket.recv(&mut heard).unwrap();
        }
        first
    }
}

/// Lets frames to the groups by, as if there were no rules.
fn open(lan: &Lan) {
    let pod = &lan.pod.namespace;
    for chain in ["guest", "network", "local"] {
        let mut flush = pod.command("nft");
        success(flush.args(["flush", "chain", "bridge", "k6t-eth0", chain]));
    }
    pod.ip("link set k6t-eth0 type bridge group_fwd_mask 0");
}

/// What the pod has learnt by its tap.
fn learnt(lan: &Lan) -> String {
    let pod = &lan.pod.namespace;
    pod.ip("neigh show dev tap0 nud all") + &pod.ip("-6 route show proto ra")
}

#[test]
fn the_pods_own_stack_hears_nothing_of_the_guest() {
    for guard in [Guard::Full, Guard::Off] {
        let lan = guard.lan();
        let secret = Secret::of(&lan);
        let mut guest = Wire::behind(&lan.pod.namespace, "tap0");
        let own = mac(POD_MAC);
        let asked = frame::arp(own, 1, (own, ipv4("10.88.0.77")), (own, ipv4(POD_V4)));
        // A router for half an hour.
        let lifetime = [64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let router = frame::icmpv6(own, ipv6("fe80::1234"), 134, &lifetime);
        let frames = [secret.call(own), asked, frame::checked(router)];
        let mut send = || {
            for last in 0..16 {
                for frame in &frames {
                    guest.send(&frame::to(frame::group(last), frame));
                }
            }
        };
        send();
        assert_eq!(secret.heard(&lan), "after", "guard {guard:?}");
        let nothing = learnt(&lan);
        assert!(!nothing.contains("10.88.0.77"), "{nothing}");
        assert!(!nothing.contains("fe80::1234"), "{nothing}");
        // But for these rules the way is open.
        open(&lan);
        send();
        assert_eq!(secret.heard(&lan), "whisper", "guard {guard:?}");
        let all = learnt(&lan);
        assert!(all.contains("10.88.0.77"), "{all}");
        assert!(all.contains("fe80::1234 dev tap0"), "{all}");
    }
}

#[test]
fn the_pods_own_stack_hears_nothing_of_the_network() {
    for guard in [Guard::Full, Guard::Off] {
        let lan = guard.lan();
        // The node's bridge forwards what any network may.
        lan.pod
            .node
            .ip("link set br0 type bridge group_fwd_mask 0xfff8");
        let secret = Secret::of(&lan);
        let mut guest = Wire::behind(&lan.pod.namespace, "tap0");
        let mut peer = probe(&lan);
        let sender = mac("02:00:00:00:00:77");
        let mut send = |guest: &mut Wire| {
            for last in 0..16 {
                peer.send(&frame::to(frame::group(last), &secret.call(sender)));
            }
            let after = frame::udp4(sender, ipv4(NODE_V4), (4001, 4001), b"after");
            peer.send(&after);
            guest.until(&after)
        };
        let to_guest = send(&mut guest);
        assert_eq!(secret.heard(&lan), "after", "guard {guard:?}");
        // Nor is it the guest's, but for what a bridge without a spanning tree hands on.
        let groups = to_guest
            .iter()
            .filter(|frame| frame[..5] == [1, 0x80, 0xc2, 0, 0]);
        assert!(groups.clone().all(|frame| frame[5] == 0), "{to_guest:x?}");
        open(&lan);
        send(&mut guest);
        assert_eq!(secret.heard(&lan), "whisper", "guard {guard:?}");
    }
}
