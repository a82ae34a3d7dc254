//! A guest that floods: its server stays small and gives a real client its lease, and the pod next
//! door notices nothing.
//!
//! The short runs are part of every test run, those of a minute of `make soak`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

#[path = "../common/mod.rs"]
mod common;
mod frames;
mod lab;

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::guest::GUEST_LINK;
use common::text;
use lab::{FLOODING, Lab, RoundTrips};

/// Packets a second.
const RATE: u32 = 10_000;
/// What a real client may wait for its lease in a long flood, on a machine with nothing else to do. On
/// another some packets are lost, for the server's queue holds what comes in 30 ms; and who loses one
/// asks again when it likes, udhcpc6 after a second and dhclient after four to eight.
const PATIENCE: Duration = Duration::from_secs(1);
/// A flood for so long tells how fast everybody is, and a byte kept of each packet would be 146
/// pages. A shorter one runs beside whatever else the machine does.
const MEASURED: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_secs(4);
/// Floods that run at once would be measured together.
static ALONE: Mutex<()> = Mutex::new(());

/// A real client's name, and how long it takes until it holds its lease.
type Client = (&'static str, fn(&Lab) -> Duration);
const UDHCPC: Client = ("udhcpc", Lab::lease_by_udhcpc);
const UDHCPC6: Client = ("udhcpc6", Lab::lease_by_udhcpc6);
const DHCPCD: Client = ("dhcpcd", Lab::lease_by_dhcpcd);
const DHCLIENT: Client = ("dhclient", Lab::lease_by_dhclient);
const DHCLIENT_AGAIN: Client = ("dhclient after a reboot", Lab::lease_again_by_dhclient);

#[test]
fn a_flood_of_every_kind() {
    flood_of_every_kind("bridge", SHORT);
}

#[test]
#[ignore = "takes a minute"]
fn a_flood_of_every_kind_for_a_minute() {
    flood_of_every_kind("bridge", MEASURED);
}

#[test]
fn a_flood_of_every_kind_behind_masquerade() {
    flood_of_every_kind("masquerade", SHORT);
}

#[test]
#[ignore = "takes a minute"]
fn a_flood_of_every_kind_behind_masquerade_for_a_minute() {
    flood_of_every_kind("masquerade", MEASURED);
}

#[test]
fn a_flood_of_declines() {
    flood_of_declines(SHORT);
}

#[test]
#[ignore = "takes a minute"]
fn a_flood_of_declines_for_a_minute() {
    flood_of_declines(MEASURED);
}

#[test]
fn a_flood_by_perfdhcp() {
    flood_by_perfdhcp(SHORT);
}

#[test]
#[ignore = "takes two minutes"]
fn a_flood_by_perfdhcp_for_a_minute() {
    flood_by_perfdhcp(MEASURED);
}

fn flood_of_every_kind(binding: &str, time: Duration) {
    let _alone = ALONE.lock();
    let lab = Lab::new(binding);
    let frames = frames::hostile(&lab.network);
    let flood = |time| lab.flood(&frames, RATE, time);
    let what = format!("of every kind, {binding}");
    withstands(&lab, &what, time, flood, &[UDHCPC, UDHCPC6]);
}

/// A guest that declines its lease is offered none for a while. One that remembers its lease asks for
/// it without an offer.
fn flood_of_declines(time: Duration) {
    let _alone = ALONE.lock();
    let lab = Lab::new("bridge");
    let frames = frames::declining(&lab.network);
    let flood = |time| lab.flood(&frames, RATE, time);
    withstands(&lab, "of declines", time, flood, &[DHCLIENT_AGAIN]);
}

/// The guest is sent an answer to each of perfdhcp's questions, in DHCPv4 at a relay's port, in DHCPv6 at
/// the flood's own address. udhcpc and udhcpc6 would read them all and miss their own: they set no filter
/// on their sockets.
fn flood_by_perfdhcp(time: Duration) {
    let _alone = ALONE.lock();
    let lab = Lab::new("bridge");
    lab.floods_from_its_own_address();
    for (version, client) in [("-4", DHCLIENT), ("-6", DHCPCD)] {
        let flood = |time| perfdhcp(&lab, version, time);
        let what = format!("by perfdhcp {version}");
        withstands(&lab, &what, time, flood, &[client]);
    }
}

/// Runs Kea's perfdhcp in the guest, in the guest's name.
fn perfdhcp(lab: &Lab, version: &str, time: Duration) {
    let mut command = lab.guest.namespace.command("perfdhcp");
    command.args([version, "-i", "-b", &format!("mac={}", lab.network.mac)]);
    // It sends one or two in a hundred fewer than it is asked for.
    command.args(["-r", &(RATE * 103 / 100).to_string()]);
    command.args(["-p", &time.as_secs().to_string()]);
    // Each of its threads spins, and would take a processor from those who are measured.
    command.args(["-g", "single"]);
    if version == "-6" {
        // The real client has the client's port.
        command.args(["-l", FLOODING, "-L", "1546", "all"]);
    } else {
        command.args(["-l", GUEST_LINK]);
    }
    // Its status tells whether each question was answered, and some answers find no room.
    let report = text(&command.output().unwrap());
    assert!(report.contains("sent packets: "), "{report}");
}

/// Floods for a moment, so that everything is as large as it gets, and then for a time during which
/// everything is watched that a guest may not do to others.
fn withstands(
    lab: &Lab,
    what: &str,
    time: Duration,
    flood: impl Fn(Duration) + Sync,
    clients: &[Client],
) {
    for (_, lease) in clients {
        lease(lab);
    }
    flood(Duration::from_secs(1));
    let quiet = lab.neighbours_round_trips(Duration::from_secs(1));

    let (memory, busy) = lab.cost();
    let (received, lost) = (lab.received(), lab.lost());
    let mut leases = vec![Vec::new(); clients.len()];
    let ((rate, share), round_trips) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let started = Instant::now();
            flood(time);
            let lasted = started.elapsed().as_secs_f64();
            let (received, busy) = (lab.received() - received, lab.cost().1 - busy);
            (received as f64 / lasted, busy.as_secs_f64() / lasted)
        });
        let round_trips = scope.spawn(|| lab.neighbours_round_trips(time));
        while !flood.is_finished() {
            for (leases, (_, lease)) in leases.iter_mut().zip(clients) {
                leases.push(lease(lab));
            }
        }
        (flood.join().unwrap(), round_trips.join().unwrap())
    });
    let (after, _) = lab.cost();
    let lost = lab.lost() - lost;
    print!(
        "flood {what}: {rate:.0} packets a second; the server: {memory} pages before, {after} after, \
         {:.0} % of a processor;",
        share * 100.0
    );
    for (leases, (client, _)) in leases.iter_mut().zip(clients) {
        leases.sort();
        print!(
            " {client}: {} leases, median {:.3?}, slowest {:.3?};",
            leases.len(),
            leases[leases.len() / 2],
            leases[leases.len() - 1],
        );
    }
    println!(
        " {lost} frames lost on their way; the neighbour's round trips: {} ms, {} ms without a flood",
        round_trips.average, quiet.average,
    );
    // Each client has got its lease, or the test would not have come so far.
    assert!(share < 0.5, "{share} of a processor");
    let grown = after.saturating_sub(memory);
    if time < MEASURED {
        assert!(rate > f64::from(RATE) * 0.1, "a flood of {rate:.0}");
        assert!(grown <= 16, "the server's memory grew by {grown} pages");
        let RoundTrips { sent, lost, .. } = round_trips;
        assert!(lost * 10 <= sent, "the neighbour lost {lost} of {sent}");
        return;
    }
    assert!(rate >= f64::from(RATE) * 0.99, "a flood of {rate:.0}");
    assert_eq!(grown, 0, "the server's memory grew by so many pages");
    assert_eq!(round_trips.lost, 0, "the neighbour lost packets");
    let leases = leases.concat();
    let late: Vec<_> = leases.iter().filter(|lease| **lease > PATIENCE).collect();
    assert!(late.is_empty(), "clients waited for {late:?}");
}
