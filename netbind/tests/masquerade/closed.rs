//! What a masqueraded guest, and others by way of it, are kept from.

use std::net::{IpAddr, UdpSocket};

use super::{
    DOUBT, GUEST_V4, GUEST_V6, ROUTER_V4, ROUTER_V6, Service, bind, bound, bridge_netfilter, guest,
    router,
};
use crate::common::guest::GUEST_LINK;
use crate::common::{Namespace, success, wait_until};
use crate::lan::frame::{self, mac};
use crate::lan::wire::Wire;
use crate::lan::{
    self, Lan, NODE_V4, NODE_V6, OTHER_V4, OTHER_V6, PEER_V4, PEER_V6, POD_MAC, POD_V4, POD_V6,
    settle,
};

#[test]
fn what_listens_in_the_pod_is_closed_to_the_guest() {
    let lan = bound(&["--port", "8080"]);
    let guest = guest(&lan);
    let inside = &guest.namespace;
    let pods = Service::at(&lan.pod.namespace, "[::]:8081");
    let link_local = format!("{}%{GUEST_LINK}", router(&lan));
    let addresses = [ROUTER_V4, ROUTER_V6, POD_V4, POD_V6];
    for on in ["1", "0"] {
        bridge_netfilter(&lan, on);
        for to in addresses {
            assert!(!pods.is_reached(inside, to), "{to}, bridge netfilter {on}");
        }
        for to in [ROUTER_V4, ROUTER_V6, &link_local] {
            assert!(guest.reaches(to), "{to}, bridge netfilter {on}");
        }
    }
    // But for these rules the way is open.
    let mut flush = lan.pod.namespace.command("nft");
    success(flush.args(["flush", "chain", "inet", "k6t-eth0", "router"]));
    for to in addresses {
        pods.seen(inside, to);
    }
}

#[test]
fn the_pods_loopback_is_closed_to_the_guest() {
    let lan = bound(&["--port", "8080"]);
    let guest = guest(&lan);
    let pod = &lan.pod.namespace;
    let secret = pod.within(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    secret.set_read_timeout(Some(DOUBT)).unwrap();
    let to = secret.local_addr().unwrap();
    // The guest's own kernel would not send it: let it.
    let inside = &guest.namespace;
    inside.sysctl(&format!("ipv4/conf/{GUEST_LINK}/route_localnet"), "1");
    inside.ip("route del local 127.0.0.1 table local");
    inside.ip("route del local 127.0.0.0/8 table local");
    let route = format!("route add 127.0.0.0/8 via {ROUTER_V4} src {GUEST_V4}");
    inside.ip(&route);
    let caller = inside.within(|| UdpSocket::bind((GUEST_V4, 0)).unwrap());
    let is_heard = || {
        caller.send_to(b"whisper", to).unwrap();
        secret.recv_from(&mut [0; 16]).is_ok()
    };
    for on in ["1", "0"] {
        bridge_netfilter(&lan, on);
        assert!(!is_heard(), "bridge netfilter {on}");
    }
    // But for these rules the way is open.
    let mut flush = pod.command("nft");
    success(flush.args(["flush", "chain", "inet", "k6t-eth0", "router"]));
    wait_until("it is heard without the rules", is_heard);
}

#[test]
fn a_guest_sends_from_no_other_address_and_nothing_untranslated() {
    let lan = bound(&[]);
    let guest = guest(&lan);
    for (address, to) in [(OTHER_V4, PEER_V4), (OTHER_V6, PEER_V6)] {
        let length = if address.contains(':') { 128 } else { 32 };
        let add = format!("address add {address}/{length} dev {GUEST_LINK}");
        guest.namespace.ip(&add);
        settle(&guest.namespace);
        let mut ping = guest.namespace.command("ping");
        let output = ping.args(["-c1", "-W1", "-I", address, to]).output();
        assert!(!output.unwrap().status.success(), "{address}");
    }
    drop(guest);

    // No connection is known for the answer to a question that nobody asked.
    let mut hostile = Wire::behind(&lan.pod.namespace, "tap0");
    let mut peer = probe(&lan);
    let state = netbind::State::read(&lan.pod.state()).unwrap().unwrap();
    let bridge = state.guest.server_mac.0;
    let own = mac(POD_MAC);
    let sent = |from: &str, protocol, payload: &[u8]| {
        let to = lan::NOBODY_V4.parse().unwrap();
        let packet = frame::ipv4(from.parse().unwrap(), to, protocol, payload);
        frame::ethernet(bridge, own, 0x0800, &packet)
    };
    let reset = [
        &[0x1f, 0x90, 0x1f, 0x90][..],
        &[0; 8],
        &[0x50, 0x04],
        &[0; 6],
    ]
    .concat();
    hostile.send(&sent(GUEST_V4, 6, &reset));
    hostile.send(&sent(OTHER_V4, 6, &reset));
    hostile.send(&sent(GUEST_V4, 1, &[0; 16]));
    hostile.send(&sent(GUEST_V4, 17, &[0x1f, 0x90, 0x1f, 0x90, 0, 8, 0, 0]));
    let seen =
        peer.until_one(|frame| frame.len() > 34 && frame[12..14] == [8, 0] && frame[23] == 17);
    let sources: Vec<_> = seen
        .iter()
        .filter(|frame| frame.len() >= 34 && frame[12..14] == [8, 0])
        .map(|frame| IpAddr::from(<[u8; 4]>::try_from(&frame[26..30]).unwrap()))
        .collect();
    let pod: IpAddr = POD_V4.parse().unwrap();
    assert!(!sources.is_empty());
    assert!(sources.iter().all(|source| *source == pod), "{sources:?}");
}

#[test]
fn a_guest_sends_from_no_other_mac() {
    let lan = bound(&[]);
    let mut guest = Wire::behind(&lan.pod.namespace, "tap0");
    let mut peer = probe(&lan);
    let state = netbind::State::read(&lan.pod.state()).unwrap().unwrap();
    let [own, other] = [POD_MAC, "02:00:00:00:00:66"].map(mac);
    // Whether the second datagram comes as well, which is sent before the first.
    let mut is_heard = |[first, second]: [u16; 2]| {
        for (from, port) in [(other, second), (own, first)] {
            let [high, low] = port.to_be_bytes();
            let datagram = [high, low, high, low, 0, 8, 0, 0];
            let (source, to) = (GUEST_V4.parse().unwrap(), lan::NOBODY_V4.parse().unwrap());
            let packet = frame::ipv4(source, to, 17, &datagram);
            guest.send(&frame::ethernet(
                state.guest.server_mac.0,
                from,
                0x0800,
                &packet,
            ));
        }
        let comes = |frame: &[u8], port: u16| {
            frame.len() > 38 && frame[23] == 17 && frame[36..38] == port.to_be_bytes()
        };
        let seen = peer.until_one(|frame| comes(frame, first));
        seen.iter().any(|frame| comes(frame, second))
    };
    assert!(!is_heard([8001, 8002]));
    // But for this rule the way is open.
    let mut flush = lan.pod.namespace.command("nft");
    success(flush.args(["flush", "chain", "bridge", "k6t-eth0", "guest"]));
    assert!(is_heard([8003, 8004]));
}

/// A further station on the network, which is [`lan::NOBODY_V4`].
fn probe(lan: &Lan) -> Wire {
    let node = &lan.pod.node;
    node.ip("tuntap add probe0 mode tap");
    node.ip("link set probe0 master br0 up");
    let probe = Wire::behind(node, "probe0");
    let neighbour = format!(
        "neigh add {} lladdr 02:00:00:00:00:99 dev eth0",
        lan::NOBODY_V4
    );
    lan.pod.namespace.ip(&neighbour);
    probe
}

#[test]
fn the_pod_is_no_router_for_others() {
    let lan = Lan::new();
    let neighbour = behind_net1(&lan);
    bind(&lan, &[]);
    let guest = guest(&lan);
    let service = Service::at(&guest.namespace, "[::]:8080");
    // By the guest's own address nobody but the pod comes to it.
    for (net, via, to) in [
        ("10.0.2.0/24", POD_V4, GUEST_V4),
        ("fd10:0:2::/120", POD_V6, GUEST_V6),
    ] {
        lan.peer.ip(&format!("route add {net} via {via}"));
        assert!(!service.is_reached(&lan.peer, to), "{to}");
        service.seen(&lan.pod.namespace, to);
    }
    // Nor through the pod to anybody else, neither by its interface nor by another.
    let nodes = Service::at(&lan.pod.node, "[::]:8081");
    for (to, via) in [(NODE_V4, POD_V4), (NODE_V6, POD_V6)] {
        nodes.seen(&lan.peer, to);
        lan.peer.ip(&format!("route add {to} via {via}"));
        assert!(!nodes.is_reached(&lan.peer, to), "{to}");
    }
    for to in [NODE_V4, NODE_V6] {
        assert!(!nodes.is_reached(&neighbour, to), "{to} by net1");
    }
    // But for those rules the way is open: IPv6 forwards by every link.
    let mut flush = lan.pod.namespace.command("nft");
    success(flush.args(["flush", "chain", "inet", "k6t-eth0", "crossing"]));
    nodes.seen(&neighbour, NODE_V6);
}

/// A station on a further link of the pod's, `net1`, which takes the pod for its router.
pub(super) fn behind_net1(lan: &Lan) -> Namespace {
    let (pod, station) = (&lan.pod.namespace, Namespace::new("station"));
    let name = station.name();
    pod.ip(&format!(
        "link add net1 type veth peer name eth0 netns {name}"
    ));
    for (namespace, link, host) in [(pod, "net1", 1), (&station, "eth0", 2)] {
        namespace.ip(&format!("link set {link} up"));
        namespace.ip(&format!("address add 172.30.0.{host}/24 dev {link}"));
        namespace.ip(&format!("address add fd30::{host}/64 dev {link} nodad"));
    }
    station.ip("route add default via 172.30.0.1");
    station.ip("route add default via fd30::1");
    // The node knows the way back.
    lan.pod
        .node
        .ip(&format!("route add 172.30.0.0/24 via {POD_V4}"));
    lan.pod
        .node
        .ip(&format!("route add fd30::/64 via {POD_V6}"));
    station
}

#[test]
fn a_rogue_router_in_the_guest_is_not_the_pods() {
    let lan = bound(&[]);
    let mut hostile = Wire::behind(&lan.pod.namespace, "tap0");
    let own = mac(POD_MAC);
    let link_local = "fe80::1234".parse().unwrap();
    // A lifetime of half an hour.
    let lifetime = [64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    hostile.send(&frame::icmpv6(own, link_local, 134, &lifetime));
    drop(hostile);
    let _guest = guest(&lan);
    assert!(lan.pod.namespace.reaches(GUEST_V6));
    assert_eq!(lan.pod.namespace.ip("-6 route show proto ra"), "");
}
