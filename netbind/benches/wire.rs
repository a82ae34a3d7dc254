//! DHCPDISCOVER to DHCPOFFER on the wire, against dnsmasq in the same namespace.
//!
//! Each server has a bridge and a tap of its own. The two are asked in turns, so that whatever
//! slows the machine slows both, and the pairs' ratio is what counts. Needs root and dnsmasq.
//! Prints medians with their 95 % intervals, as JSON after `--json`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark, as a test, ends where its ground is not as it should be"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::guest::attach;
use common::{Namespace, Process, success, wait_until};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

/// Pairs of questions; the budget asks for at least 20.
const PAIRS: usize = 500;

fn main() {
    let (pod, dir) = (Namespace::new("pod"), tempfile::TempDir::new().unwrap());
    pod.ip("link add eth0 type veth peer name far");
    pod.ip("addr add 10.1.1.2/24 dev eth0");
    pod.ip("link set far up");
    pod.ip("link set eth0 up");
    let netbind = |verb: &str| {
        let mut command = std::process::Command::new(common::NETBIND);
        command
            .arg("--netns")
            .arg(pod.path())
            .args([verb, "--state"])
            .arg(dir.path().join("state"));
        command
    };
    success(&mut netbind("setup"));
    let ours = pod.within(|| attach("tap0"));
    let _serve = Process::start(netbind("serve").stdout(Stdio::null()));

    pod.ip("link add br0 type bridge stp_state 0");
    pod.ip("addr add 10.2.2.1/24 dev br0");
    let theirs = pod.within(|| attach("tap1"));
    pod.ip("link set tap1 master br0 up");
    pod.ip("link set br0 up");
    let mut dnsmasq = pod.command("dnsmasq");
    dnsmasq.args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--user=root",
        "--port=0",
        "--no-ping",
    ]);
    dnsmasq.args([
        "--interface=br0",
        "--except-interface=lo",
        "--bind-interfaces",
        "--leasefile-ro",
    ]);
    dnsmasq.args(["--dhcp-authoritative", "--dhcp-range=10.2.2.2,10.2.2.2,24h"]);
    let _dnsmasq = Process::start(dnsmasq.stdout(Stdio::null()));

    let link: serde_json::Value = serde_json::from_str(&pod.ip("-j link show eth0")).unwrap();
    let mac: netbind::Mac = link[0]["address"].as_str().unwrap().parse().unwrap();
    for tap in [&ours, &theirs] {
        wait_until("the server offers", || ask(tap, mac).is_some());
    }
    let mut pairs = Vec::new();
    while pairs.len() < PAIRS {
        pairs.push((ask(&ours, mac).unwrap(), ask(&theirs, mac).unwrap()));
    }
    let micros = |time: &Duration| time.as_secs_f64() * 1e6;
    let ours = median(pairs.iter().map(|(ours, _)| micros(ours)).collect());
    let theirs = median(pairs.iter().map(|(_, theirs)| micros(theirs)).collect());
    let ratio = median(
        pairs
            .iter()
            .map(|(ours, theirs)| micros(ours) / micros(theirs))
            .collect(),
    );
    if std::env::args().any(|argument| argument == "--json") {
        println!(
            "{}",
            json!({ "pairs": PAIRS, "netbind_micros": ours, "dnsmasq_micros": theirs, "ratio": ratio })
        );
        return;
    }
    for (what, [low, middle, high]) in [
        ("netbind, microseconds", ours),
        ("dnsmasq, microseconds", theirs),
        ("ratio", ratio),
    ] {
        println!("{what:22} {middle:8.2} ({low:.2} to {high:.2})");
    }
}

/// Sends a DHCPDISCOVER and waits for the offer; how long that took, none after a second.
fn ask(mut tap: &File, mac: netbind::Mac) -> Option<Duration> {
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
    let length = payload.len() as u16;
    let mut frame = [&[0xff; 6][..], &mac.0, &[8, 0, 0x45, 0]].concat();
    frame.extend((length + 28).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67]);
    frame.extend((length + 8).to_be_bytes());
    frame.extend([0, 0]);
    let sum: u32 = frame[14..34]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(payload);

    let asked = Instant::now();
    tap.write_all(&frame).unwrap();
    let mut reply = [0; 2048];
    loop {
        let left = Duration::from_secs(1).checked_sub(asked.elapsed())?;
        let mut fds = [PollFd::new(tap.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap();
        if fds[0].any() != Some(true) {
            return None;
        }
        let length = tap.read(&mut reply).unwrap();
        // The rest is the kernel's own talk.
        let offer = reply[12..14] == [8, 0] && reply[34..36] == [0, 67];
        if length > 282 && offer && reply[46..50] == transaction {
            return Some(asked.elapsed());
        }
    }
}

/// The median between the bounds of its 95 % interval, by order statistics.
fn median(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let reach = 0.98 * n.sqrt();
    [n / 2.0 - reach, n / 2.0, n / 2.0 + reach].map(|rank| values[rank.floor() as usize])
}
