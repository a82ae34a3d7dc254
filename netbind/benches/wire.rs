//! DHCPDISCOVER to DHCPOFFER, and router solicitation to advertisement, on the wire, against dnsmasq
//! in the same namespace.
//!
//! Each server has a bridge and a tap of its own. The two are asked in turns, so that whatever
//! slows the machine slows both, and the pairs' ratio is what counts. Needs root and dnsmasq.
//! Prints medians with their 95 % intervals, in microseconds, as JSON.

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
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::guest::attach;
use common::{Namespace, Process, success, wait_until};
use netbind::Mac;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Pairs of questions; the budget asks for at least 20.
const PAIRS: usize = 500;
/// Router solicitations to one server process: it answers a burst of 16 one by one, and after
/// that one a second.
const SOLICITATIONS: usize = 10;

fn main() {
    // Where the scheduler puts a server decides more than what the server does: an answer from
    // the asking processor takes 7 µs, one from a processor that slept takes 33.
    let mut processor = CpuSet::new();
    processor.set(0).expect("every machine has a processor 0");
    sched_setaffinity(Pid::this(), &processor).expect("a process may choose its processor");
    let (pod, dir) = (Namespace::new("pod"), tempfile::TempDir::new().unwrap());
    let ip = |text: &str| text.lines().for_each(|line| drop(pod.ip(line)));
    ip("link add eth0 type veth peer name far
        addr add 10.1.1.2/24 dev eth0
        addr add fd01::2/64 dev eth0 nodad
        link set far up
        link set eth0 up");
    let netbind = |verb: &str| {
        let mut command = Command::new(common::NETBIND);
        command
            .arg("--netns")
            .arg(pod.path())
            .args([verb, "--state"])
            .arg(dir.path().join("state"));
        command
    };
    success(&mut netbind("setup"));
    let ours = pod.within(|| attach("tap0"));
    let serve = || Process::start(netbind("serve").stdout(Stdio::null()));

    ip("link add br0 type bridge stp_state 0
        addr add 10.2.2.1/24 dev br0
        addr add fd02::1/64 dev br0 nodad");
    let theirs = pod.within(|| attach("tap1"));
    ip("link set tap1 master br0 up
        link set br0 up");
    let mut dnsmasq = pod.command("dnsmasq");
    dnsmasq.args("--no-daemon --conf-file=/dev/null --user=root --port=0 --no-ping".split(' '));
    dnsmasq
        .args("--interface=br0 --except-interface=lo --bind-interfaces --leasefile-ro".split(' '));
    dnsmasq.args(["--dhcp-authoritative", "--dhcp-range=10.2.2.2,10.2.2.2,24h"]);
    dnsmasq.args(["--enable-ra", "--dhcp-range=fd02::2,fd02::2,64,24h"]);
    let _dnsmasq = Process::start(dnsmasq.stdout(Stdio::null()));

    let link: Value = serde_json::from_str(&pod.ip("-j link show eth0")).unwrap();
    let mac: Mac = link[0]["address"].as_str().unwrap().parse().unwrap();
    // dnsmasq answers through the kernel, which would have to look for its neighbour first.
    let link_local = mac.link_local();
    ip(&format!("neigh replace {link_local} lladdr {mac} dev br0"));
    let taps = [&ours, &theirs];
    let measure = |ask: Ask, pairs: usize| {
        let _serve = serve();
        for tap in taps {
            wait_until("the server answers", || ask(tap, mac).is_some());
        }
        let micros = |tap| {
            let answered = ask(tap, mac).expect("the server answers");
            answered.as_secs_f64() * 1e6
        };
        let pairs = (0..pairs).map(|_| (micros(&ours), micros(&theirs)));
        pairs.collect::<Vec<_>>()
    };
    let discover = measure(discover, PAIRS);
    let solicit: Vec<_> = (0..PAIRS / SOLICITATIONS)
        .flat_map(|_| measure(solicit, SOLICITATIONS))
        .collect();
    let figures = json!({
        "discover": support::compare(&discover),
        "solicit": support::compare(&solicit),
    });
    println!("{figures:#}");
}

/// Asks a question; how long the answer took, none after a second.
type Ask = fn(&File, Mac) -> Option<Duration>;

/// DHCPDISCOVER.
fn discover(tap: &File, mac: Mac) -> Option<Duration> {
    // A question of its own each time: a late answer to an earlier one must not count.
    static TRANSACTION: AtomicU32 = AtomicU32::new(0);
    let transaction = TRANSACTION.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let mut payload = vec![0; 236];
    payload[..3].copy_from_slice(&[1, 1, 6]);
    payload[4..8].copy_from_slice(&transaction);
    payload[28..34].copy_from_slice(&mac.0);
    payload.extend([
        99, 130, 83, 99, 53, 1, 1, 57, 2, 5, 220, 55, 5, 1, 3, 6, 12, 26, 255,
    ]);
    payload.resize(300, 0);
    let addresses = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST];
    let frame = support::udp([mac, Mac::BROADCAST], addresses, [68, 67], &payload);
    ask(tap, &frame, |reply| {
        let offer = reply[12..14] == [8, 0] && reply[34..36] == [0, 67];
        reply.len() > 282 && offer && reply[46..50] == transaction
    })
}

/// A router solicitation.
fn solicit(tap: &File, mac: Mac) -> Option<Duration> {
    ask(tap, &support::router_solicitation(mac), |reply| {
        reply.len() > 54 && reply[12..14] == [0x86, 0xdd] && reply[20] == 58 && reply[54] == 134
    })
}

fn ask(mut tap: &File, question: &[u8], is_answer: impl Fn(&[u8]) -> bool) -> Option<Duration> {
    let mut reply = [0; 2048];
    // What came unasked must not count either.
    while readable(tap, Duration::ZERO) {
        let _ = tap.read(&mut reply).unwrap();
    }
    let asked = Instant::now();
    tap.write_all(question).unwrap();
    loop {
        let left = Duration::from_secs(1).checked_sub(asked.elapsed())?;
        if !readable(tap, left) {
            return None;
        }
        let length = tap.read(&mut reply).unwrap();
        if is_answer(&reply[..length]) {
            return Some(asked.elapsed());
        }
    }
}

fn readable(tap: &File, within: Duration) -> bool {
    let mut fds = [PollFd::new(tap.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap();
    fds[0].any() == Some(true)
}
