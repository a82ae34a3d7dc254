//! Real DHCP clients against our server: each as its distribution configures it, in a namespace
//! behind a pod's tap, with no VM.
//!
//! With `NETBIND_SEEDS` set to a directory, what they sent is kept there for fuzzing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

mod client;
#[path = "../common/mod.rs"]
mod common;
mod network_manager;
mod networkd;
mod scripts;
mod site;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use client::Client;
use common::guest::{Disk, GUEST_LINK, Guest, Question};
use common::serve::Serve;
use common::{PATIENCE, Pod};
use netbind::State;
use netbind::dhcp::{Kind, Message, Responder};
use network_manager::NetworkManager;
use networkd::Networkd;
use scripts::{Dhclient, Dhcpcd, Udhcpc};
use site::{MAC, PEER, SITE, Site};

const MATRIX: [&dyn Client; 5] = [&Udhcpc, &Dhclient, &Dhcpcd, &Networkd, &NetworkManager];

/// Where another pod has another address.
const ELSEWHERE: Site<'_> = Site {
    address: "10.1.1.9",
    ..SITE
};
/// Seconds of a lease of which the half passes in a test's time. dhcpcd takes none that is shorter.
const SHORT: u32 = 20;
/// Seconds of one that is renewed at the half and rebound in a test's time. The eighth that is left then has to
/// do for a busy machine: once the kernel has taken the address, dhclient's script sets no routes with it.
const REBOUND: u32 = 40;

/// Runs a test with every client, all at once: most of the time they wait.
fn with_every_client(test: impl Fn(&dyn Client) + Sync) {
    let test = &test;
    let failed: Vec<_> = thread::scope(|scope| {
        let running = MATRIX.map(|client| {
            let named = thread::Builder::new().name(client.name().to_owned());
            let thread = named.spawn_scoped(scope, move || test(client)).unwrap();
            (client.name(), thread)
        });
        let joined = running.map(|(name, thread)| (name, thread.join()));
        let failed = joined.into_iter().filter(|(_, result)| result.is_err());
        failed.map(|(name, _)| name).collect()
    });
    assert!(failed.is_empty(), "failed with {failed:?}");
}

/// Waits, for as long as any client may take, for what it has no event for.
fn wait<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(value) = get() {
            return value;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("not within {PATIENCE:?}: {what}");
}

/// A guest behind a pod's tap, with a client on its disk.
fn guest(client: &dyn Client, pod: &Pod) -> (Guest, Disk) {
    let (guest, disk) = (Guest::behind(pod, "tap0", MAC), Disk::new());
    client.install(&guest, &disk);
    (guest, disk)
}

/// Waits until the client has been told all that there is to tell at a site, and the guest reaches
/// its peer by it.
fn is_at(site: &Site<'_>, client: &dyn Client, guest: &Guest, disk: &Disk) {
    wait("the client holds its lease", || {
        client.told(guest, disk).filter(|told| *told == site.told())
    });
    wait("the guest reaches its peer", || {
        guest.reaches(PEER).then_some(())
    });
}

#[test]
fn every_client_gets_all_that_it_asks_for_and_reaches_the_peer() {
    with_every_client(|client| {
        let pod = SITE.pod();
        let (guest, disk) = guest(client, &pod);
        let _server = Serve::start(&pod);
        let _client = client.start(&guest, &disk);
        let told = wait("the client holds a lease", || client.told(&guest, &disk));
        assert_eq!(told, SITE.told());
        is_at(&SITE, client, &guest, &disk);
        assert!(pod.node_reaches(SITE.address));
        // The MTU is in force, be it by the link or by the route.
        let passes = |size| {
            let mut ping = guest.namespace.command("ping");
            let output = ping
                .args(["-c1", "-w10", "-Mdo", "-s", size, PEER])
                .output();
            output.unwrap().status.success()
        };
        assert!(passes("1422") && !passes("1423"));
        keep(client, &guest);
    });
}

#[test]
fn a_client_that_reboots_into_another_pod_is_refused_and_then_served() {
    with_every_client(|client| {
        let (first, second) = (SITE.pod(), ELSEWHERE.pod());
        let (mut guest, disk) = guest(client, &first);
        {
            let _server = Serve::start(&first);
            let _client = client.start(&guest, &disk);
            is_at(&SITE, client, &guest, &disk);
        }
        let flush = format!("address flush dev {GUEST_LINK}");
        guest.namespace.ip(&flush);
        guest.move_behind(&second, "tap0");
        let remembers = client.remember(&guest, &disk, SITE.address);
        let before = guest.asked().len();
        let server = Serve::start(&second);
        let _client = client.start(&guest, &disk);
        if remembers {
            assert_eq!(server.event("naked")["requested"], SITE.address);
            assert_eq!(state(&guest.asked()[before]), "init-reboot");
        }
        assert_eq!(server.event("acked")["address"], ELSEWHERE.address);
        is_at(&ELSEWHERE, client, &guest, &disk);
        keep(client, &guest);
    });
}

#[test]
fn a_client_that_moves_with_its_lease_is_refused_and_then_served() {
    let short = |site| Site {
        lease_seconds: SHORT,
        ..site
    };
    with_every_client(|client| {
        let (first, second) = (short(SITE).pod(), short(ELSEWHERE).pod());
        let (mut guest, disk) = guest(client, &first);
        let _first_server = Serve::start(&first);
        let _client = client.start(&guest, &disk);
        is_at(&SITE, client, &guest, &disk);

        let server = Serve::start(&second);
        guest.move_behind(&second, "tap0");
        assert_eq!(server.event("naked")["requested"], SITE.address);
        assert_eq!(server.event("acked")["address"], ELSEWHERE.address);
        is_at(&ELSEWHERE, client, &guest, &disk);
    });
}

#[test]
fn a_client_renews_its_lease_and_after_a_restart_of_the_server_rebinds_it() {
    with_every_client(|client| {
        let pod = Site {
            lease_seconds: REBOUND,
            ..SITE
        }
        .pod();
        let (guest, disk) = guest(client, &pod);
        let server = Serve::start(&pod);
        let _client = client.start(&guest, &disk);
        server.event("acked");
        is_at(&SITE, client, &guest, &disk);
        server.event("acked");

        // Renewals, which go to the server alone, are lost; what all servers hear is not.
        drop(server);
        guest.lose_unicast();
        let before = guest.asked().len();
        let server = Serve::start(&pod);
        server.event("acked");
        let since = guest.asked().split_off(before);
        let states: Vec<_> = since.iter().map(state).collect();
        let mut others = states.iter().skip_while(|state| **state == "renewing");
        assert_eq!(others.next(), Some(&"rebinding"), "{states:?}");
        // Who is not answered at once asks again.
        assert!(others.all(|state| *state == "rebinding"), "{states:?}");
        is_at(&SITE, client, &guest, &disk);
        keep(client, &guest);
    });
}

#[test]
fn every_client_finds_the_options_that_have_room_in_file_only() {
    let domain = format!("{}.{}.example.org", "a".repeat(40), "b".repeat(40));
    let site = Site {
        // A small link, so small messages.
        mtu: 610,
        search: &format!("{domain} svc.{domain}"),
        hostname: &"vm".repeat(31),
        ..SITE
    };
    with_every_client(|client| {
        let pod = site.pod();
        let (guest, disk) = guest(client, &pod);
        let _server = Serve::start(&pod);
        let _client = client.start(&guest, &disk);
        let told = wait("the client holds a lease", || client.told(&guest, &disk));
        assert_eq!(told, site.told());

        let lease = State::read(&pod.state()).unwrap().unwrap().guest.lease;
        let asked = guest.asked().pop().unwrap();
        let message = Message::parse(&asked.payload).unwrap();
        let (reply, _) = Responder::new(lease.unwrap()).answer(&message, Duration::ZERO);
        let file = &reply.unwrap().payload[108..236];
        assert!(file.iter().any(|byte| *byte != 0), "file is empty");
    });
}

/// The state of the client that asked this, in the words of RFC 2131 figure 5.
fn state(question: &Question) -> &'static str {
    let message = Message::parse(&question.payload).unwrap();
    match (message.kind, message.server_id, message.requested) {
        (Kind::Discover, ..) => "init",
        (Kind::Request, Some(_), _) => "selecting",
        (Kind::Request, None, Some(_)) => "init-reboot",
        (Kind::Request, None, None) if question.broadcast => "rebinding",
        (Kind::Request, None, None) => "renewing",
        _ => "other",
    }
}

/// Keeps the first question in each state, if asked to.
fn keep(client: &dyn Client, guest: &Guest) {
    let Some(dir) = std::env::var_os("NETBIND_SEEDS") else {
        return;
    };
    for question in guest.asked().iter().rev() {
        let name = format!("{}-{}", client.name(), state(question));
        std::fs::write(Path::new(&dir).join(name), &question.payload).unwrap();
    }
}
