//! A pod on a node, and a peer beyond it, connected as a test says.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Stdio;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use crate::common::guest::Guest;
use crate::common::{Namespace, PATIENCE, Pod, wait_until};

/// Where the peer is, on a network of its own behind the node.
pub(crate) const PEER_V4: &str = "192.0.2.2";
pub(crate) const PEER_V6: &str = "2001:db8:2::2";

/// Three namespaces: a pod, its node, which routes, and a peer.
pub(crate) struct Lab {
    pub(crate) pod: Pod,
    pub(crate) peer: Namespace,
}

impl Lab {
    /// A pod whose interface has this name and is, on the node, `pod0`; nothing is configured yet.
    pub(crate) fn new(interface: &'static str) -> Self {
        let lab = Self::without_pod_link(interface);
        lab.link_pod(interface);
        lab
    }

    /// The same, but the pod has no interface yet.
    pub(crate) fn without_pod_link(interface: &'static str) -> Self {
        let (pod, peer) = (Pod::by_hand(interface), Namespace::new("peer"));
        pod.node.sysctl("ipv4/ip_forward", "1");
        pod.node.sysctl("ipv6/conf/all/forwarding", "1");
        let lab = Self { pod, peer };
        lab.node(&format!(
            "link add peer0 type veth peer name eth0 netns {}
             address add 192.0.2.1/24 dev peer0
             address add 2001:db8:2::1/64 dev peer0 nodad
             link set peer0 up
             route add default via {PEER_V4}
             route add default via {PEER_V6}",
            lab.peer.name()
        ));
        lab.peer(&format!(
            "address add {PEER_V4}/24 dev eth0
             address add {PEER_V6}/64 dev eth0 nodad
             link set eth0 up
             route add default via 192.0.2.1
             route add default via 2001:db8:2::1"
        ));
        lab
    }

    /// Makes the pod's interface, down.
    pub(crate) fn link_pod(&self, interface: &str) {
        self.node(&format!(
            "link add pod0 type veth peer name {interface} netns {}",
            self.pod.namespace.name()
        ));
    }

    /// Runs lines of ip(8) on the node.
    pub(crate) fn node(&self, lines: &str) {
        run(&self.pod.node, lines);
    }

    /// Runs lines of ip(8) in the pod.
    pub(crate) fn pod(&self, lines: &str) {
        run(&self.pod.namespace, lines);
    }

    /// Runs lines of ip(8) at the peer.
    pub(crate) fn peer(&self, lines: &str) {
        run(&self.peer, lines);
    }

    /// Everything of the three networks that is a setting, but for what bridges beside the pod's
    /// have learned.
    pub(crate) fn dump(&self) -> String {
        let beside = [&self.pod.node, &self.peer].map(|namespace| {
            let mut lists: Vec<Value> = serde_json::from_str(&namespace.dump()).unwrap();
            // Of all lists only the forwarding table's has such a field.
            lists.retain(|list| list[0]["mac"].is_null());
            serde_json::to_string_pretty(&lists).unwrap()
        });
        format!("{}\n{}", self.pod.namespace.dump(), beside.join("\n"))
    }
}

/// One process for all, as a plugin is one: its steps follow on each other.
fn run(namespace: &Namespace, lines: &str) {
    let mut ip = namespace.command("ip");
    let mut ip = ip
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    ip.stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    assert!(ip.wait().unwrap().success(), "{lines}");
}

/// A service in the guest.
pub(crate) struct Service(TcpListener);

const PORT: u16 = 8080;

impl Service {
    pub(crate) fn of(guest: &Guest) -> Self {
        Self(
            guest
                .namespace
                .within(|| TcpListener::bind(("::", PORT)).unwrap()),
        )
    }

    /// Calls the service from a namespace, by an address, and fails unless it is this one that
    /// answers.
    #[track_caller]
    pub(crate) fn answers(&self, caller: &Namespace, address: &str, what: &str) {
        let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), PORT);
        let call = caller.within(|| TcpStream::connect_timeout(&address, PATIENCE));
        let mut call = call.unwrap_or_else(|error| panic!("{what}: {address}: {error}"));
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(PATIENCE).unwrap();
        assert_eq!(
            poll(&mut fds, timeout).unwrap(),
            1,
            "{what}: another than the guest answers at {address}"
        );
        let (mut answer, _) = self.0.accept().unwrap();
        answer.write_all(b"guest").unwrap();
        drop(answer);
        call.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = String::new();
        call.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "guest", "{what}: {address}");
    }
}

/// Waits until no address of a namespace is under duplicate address detection.
pub(crate) fn settle_addresses(namespace: &Namespace) {
    wait_until("addresses are settled", || {
        !namespace.ip("address").contains("tentative")
    });
}
