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
use lab::Lab;

/// Packets a second.
const RATE: u32 = 10_000;
/// What a real client may wait for its lease. One in ten may lose a packet, and ask again when it
/// likes: the guest's own queues overflow as well.
const PATIENCE: Duration = Duration::from_secs(1);
/// A flood for so long tells how fast everybody is. A shorter one has too few leases for that, and
/// runs beside whatever else the machine does.
const MEASURED: Duration = Duration::from_mins(1);
/// Floods that run at once would be measured together.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_flood_of_every_kind() {
    flood_by_hand(Duration::from_secs(4));
}

#[test]
#[ignore = "takes a minute"]
fn a_flood_of_every_kind_for_a_minute() {
    flood_by_hand(MEASURED);
}

#[test]
fn a_flood_by_perfdhcp() {
    flood_by_perfdhcp(Duration::from_secs(4));
}

#[test]
#[ignore = "takes two minutes"]
fn a_flood_by_perfdhcp_for_a_minute() {
    flood_by_perfdhcp(MEASURED);
}

fn flood_by_hand(time: Duration) {
    let _alone = ALONE.lock();
    let lab = Lab::new();
    let frames = frames::hostile(lab.mac);
    let flood = |time| lab.flood(&frames, RATE, time);
    withstands(&lab, "of every kind", time, flood, Lab::lease_by_udhcpc);
}

/// The guest is sent an answer to each of perfdhcp's questions, at a relay's port. udhcpc would read
/// them all and miss its own (it sets no filter on its socket), so the client is dhclient.
fn flood_by_perfdhcp(time: Duration) {
    let _alone = ALONE.lock();
    let lab = Lab::new();
    for version in ["-4", "-6"] {
        let flood = |time| perfdhcp(&lab, version, time);
        let what = format!("by perfdhcp {version}");
        withstands(&lab, &what, time, flood, Lab::lease_by_dhclient);
    }
}

/// Runs Kea's perfdhcp in the guest, in the guest's name; how many questions it sent.
fn perfdhcp(lab: &Lab, version: &str, time: Duration) -> u32 {
    let mut command = lab.guest.namespace.command("perfdhcp");
    command.args([version, "-i", "-l", GUEST_LINK]);
    command.args(["-b", &format!("mac={}", lab.mac)]);
    command.args(["-r", &RATE.to_string()]);
    command.args(["-p", &time.as_secs().to_string()]);
    // Each of its threads spins, and would take a processor from those who are measured.
    command.args(["-g", "single"]);
    // Its status tells whether each question was answered, and some answers find no room.
    let report = text(&command.output().unwrap());
    let sent = report
        .lines()
        .find_map(|line| line.strip_prefix("sent packets: "));
    sent.and_then(|sent| sent.trim().parse().ok())
        .unwrap_or_else(|| panic!("{report}"))
}

/// Floods for a moment, so that everything is as large as it gets, and then for a time during which
/// everything is watched that a guest may not do to others.
fn withstands(
    lab: &Lab,
    what: &str,
    time: Duration,
    flood: impl Fn(Duration) -> u32 + Sync,
    lease: impl Fn(&Lab) -> Duration,
) {
    lease(lab);
    flood(Duration::from_secs(1));
    let quiet = lab.neighbours_round_trips(Duration::from_secs(1));

    let (memory, busy) = lab.cost();
    let ((sent, lasted, busy), mut leases, round_trips) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let started = Instant::now();
            let sent = flood(time);
            (sent, started.elapsed().as_secs_f64(), lab.cost().1 - busy)
        });
        let round_trips = scope.spawn(|| lab.neighbours_round_trips(time));
        let mut leases = Vec::new();
        while !flood.is_finished() {
            leases.push(lease(lab));
        }
        (flood.join().unwrap(), leases, round_trips.join().unwrap())
    });
    let rate = f64::from(sent) / lasted;
    let share = busy.as_secs_f64() / lasted;
    let grown = lab.cost().0.saturating_sub(memory);
    leases.sort();
    let most = leases[(leases.len() - 1) * 9 / 10];
    println!(
        "{what}: {rate:.0} packets a second; the server took {:.0} % of a processor and {grown} pages \
         more; {} leases, nine of ten within {most:?} and the slowest after {:?}; \
         the neighbour's round trips took {} ms, without a flood {} ms",
        share * 100.0,
        leases.len(),
        leases.last().unwrap(),
        round_trips.average,
        quiet.average,
    );
    // Each client has got its lease, or the test would not have come so far.
    assert!(grown <= 16, "the server's memory grew by {grown} pages");
    assert!(share < 0.5, "{share} of a processor");
    assert!(
        round_trips.lost * 10 <= round_trips.sent,
        "the neighbour lost {} packets of {}",
        round_trips.lost,
        round_trips.sent
    );
    if time < MEASURED {
        return;
    }
    assert!(rate > f64::from(RATE) * 0.8, "a flood of {rate:.0}");
    assert!(most < PATIENCE, "a client waited {most:?}");
    assert_eq!(round_trips.lost, 0, "the neighbour lost packets");
}
