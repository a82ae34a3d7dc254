//! Packets a second through both bindings, against a bridge made by hand and a masquerade made by
//! hand with nft.
//!
//! Small datagrams are written to the tap as QEMU writes them, and read from it; the other end is a
//! veth in another namespace. No guest and no server takes part: what is timed is the kernel's path
//! through the links and tables that each made. Needs root, ip and nft. Prints JSON.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark, as a test, ends where its ground is not as it should be"
)]

#[path = "../tests/common/mod.rs"]
mod common;
mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::Instant;

use common::guest::attach;
use common::{Namespace, success, wait_until};
use netbind::Mac;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};
use serde_json::{Value, json};

/// Interleaved pairs.
const PAIRS: usize = 40;
/// Packets that are under way at once: fewer than any queue holds.
const BURST: usize = 256;
/// Bursts in one measurement.
const BURSTS: usize = 200;
const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// Who made the path.
#[derive(Clone, Copy)]
enum By {
    Netbind,
    Hand,
}

fn main() {
    let mut figures = serde_json::Map::new();
    for binding in ["bridge", "masquerade"] {
        let [ours, theirs] = [By::Netbind, By::Hand].map(|by| Path::new(binding, by));
        let mut pairs = [vec![], vec![]];
        for round in 0..PAIRS {
            let (first, second) = match round % 2 {
                0 => (&ours, &theirs),
                _ => (&theirs, &ours),
            };
            for (direction, pairs) in [Path::sends, Path::receives].iter().zip(&mut pairs) {
                let (first, second) = (direction(first), direction(second));
                pairs.push(if round % 2 == 0 {
                    (first, second)
                } else {
                    (second, first)
                });
            }
        }
        let [from_guest, to_guest] = pairs.map(|pairs| support::compare(&pairs));
        figures.insert(
            binding.to_owned(),
            json!({ "from_guest": from_guest, "to_guest": to_guest }),
        );
    }
    println!("{:#}", Value::from(figures));
}

/// From the guest's end of a tap to a peer's interface.
struct Path {
    node: Namespace,
    _pod: Namespace,
    tap: File,
    /// In the node's namespace, on the peer's interface.
    wire: OwnedFd,
    outward: Vec<u8>,
    inward: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl Path {
    fn new(binding: &str, by: By) -> Self {
        let (pod, node) = (Namespace::new("pod"), Namespace::new("node"));
        let dir = tempfile::TempDir::new().unwrap();
        let ip = |text: &str| text.lines().for_each(|line| drop(pod.ip(line)));
        node.ip(&format!(
            "link add far address {PEER_MAC} type veth peer name eth0 netns {}",
            pod.path().file_name().unwrap().to_str().unwrap()
        ));
        node.ip("link set far up");
        ip(&format!(
            "addr add {POD}/24 dev eth0
             link set eth0 up
             neigh replace {PEER} lladdr {PEER_MAC} dev eth0"
        ));
        let own = mac(&pod, "eth0");
        match (by, binding) {
            (By::Netbind, _) => {
                let mut setup = Command::new(common::NETBIND);
                setup.arg("--netns").arg(pod.path());
                setup.args(["setup", "--binding", binding, "--state"]);
                success(setup.arg(dir.path().join("state")));
            }
            (By::Hand, "bridge") => ip("link add k6t-eth0 type bridge stp_state 0
                 tuntap add tap0 mode tap
                 link set eth0 address 02:00:00:00:00:02
                 link set eth0 master k6t-eth0
                 link set tap0 master k6t-eth0 up
                 link set k6t-eth0 up"),
            (By::Hand, _) => {
                ip("link add k6t-eth0 type bridge stp_state 0
                    addr add 10.0.2.1/24 dev k6t-eth0
                    tuntap add tap0 mode tap
                    link set tap0 master k6t-eth0 up
                    link set k6t-eth0 up");
                let rules = dir.path().join("rules");
                std::fs::write(&rules, RULES).unwrap();
                success(pod.command("nft").arg("-f").arg(rules));
                pod.within(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
            }
        }
        let tap = pod.within(|| attach("tap0"));
        wait_until("the tap has its carrier", || {
            pod.ip("link show tap0").contains("state UP")
        });
        let guest = if binding == "bridge" {
            POD
        } else {
            // Who answers ARP is not what is timed.
            ip(&format!("neigh replace 10.0.2.2 lladdr {own} dev k6t-eth0"));
            Ipv4Addr::new(10, 0, 2, 2)
        };
        let router = match binding {
            "bridge" => PEER_MAC,
            _ => mac(&pod, "k6t-eth0"),
        };
        let payload = [0; 18];
        // One flow: the peer answers what the guest asked.
        let ports = [40_000, 9];
        Self {
            wire: node.within(packet_socket),
            outward: support::udp([own, router], [guest, PEER], ports, &payload),
            inward: support::udp([PEER_MAC, own], [PEER, POD], [9, 40_000], &payload),
            tap,
            node,
            _pod: pod,
            _dir: dir,
        }
    }

    /// Packets a second from the guest to the peer.
    fn sends(&self) -> f64 {
        let before = self.received();
        let started = Instant::now();
        for _ in 0..BURSTS * BURST {
            (&self.tap).write_all(&self.outward).unwrap();
        }
        let seconds = started.elapsed().as_secs_f64();
        wait_until("all packets have arrived", || {
            self.received() - before >= (BURSTS * BURST) as u64
        });
        (BURSTS * BURST) as f64 / seconds
    }

    /// Packets a second from the peer to the guest.
    fn receives(&self) -> f64 {
        let mut frame = [0; 2048];
        // A flow that netfilter knows, and nothing older in the queue.
        (&self.tap).write_all(&self.outward).unwrap();
        let started = Instant::now();
        for _ in 0..BURSTS {
            for _ in 0..BURST {
                send(self.wire.as_raw_fd(), &self.inward, MsgFlags::empty()).unwrap();
            }
            let mut left = BURST;
            while left > 0 {
                let length = (&self.tap).read(&mut frame).unwrap();
                let ours =
                    frame[12..14] == [8, 0] && frame[23] == 17 && length == self.inward.len();
                left -= usize::from(ours);
            }
        }
        (BURSTS * BURST) as f64 / started.elapsed().as_secs_f64()
    }

    fn received(&self) -> u64 {
        let text = self.node.ip("-j -s link show far");
        let link: Value = serde_json::from_str(&text).unwrap();
        link[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    }
}

/// What an administrator would write.
const RULES: &str = "\
table ip nat {
    chain prerouting { type nat hook prerouting priority -100; iifname eth0 dnat to 10.0.2.2; }
    chain postrouting { type nat hook postrouting priority 100; ip saddr 10.0.2.2 oifname eth0 masquerade; }
}
";

fn mac(namespace: &Namespace, link: &str) -> Mac {
    let text = namespace.ip(&format!("-j link show {link}"));
    let link: Value = serde_json::from_str(&text).unwrap();
    link[0]["address"].as_str().unwrap().parse().unwrap()
}

/// A socket that sends whole frames out of the peer's interface, and receives nothing.
fn packet_socket() -> OwnedFd {
    let mut links = nix::ifaddrs::getifaddrs().unwrap();
    let far = links.find_map(|link| {
        let address = *link.address?.as_link_addr()?;
        (link.interface_name == "far").then_some(address)
    });
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::empty(),
        None,
    )
    .unwrap();
    bind(socket.as_raw_fd(), &far.unwrap()).unwrap();
    socket
}
