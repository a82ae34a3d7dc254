//! Real DHCPv6 clients, as Debian configures them, in a namespace behind a pod's tap.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod network_manager;
mod networkd;
mod scripts;
mod site;

use client::{Client, Told, settled};
use common::guest::{Disk, GUEST_LINK, Guest};
use common::serve::Serve;
use common::{success, wait_until};
use network_manager::NetworkManager;
use networkd::Networkd;
use scripts::{Dhclient, Dhcpcd, Udhcpc6};
use site::{BEYOND, MAC};

const ADDRESS: &str = "2001:db8:1::2";
/// An address of the guest in another pod, or before.
const STALE: &str = "2001:db8:1::99";

/// Each test with each client.
macro_rules! matrix {
    ($($name:ident: $client:expr;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn gets_all_that_it_asks_for_and_renews() {
                super::gets_all_that_it_asks_for_and_renews(&$client);
            }

            #[test]
            fn with_a_stale_lease_gets_the_right_address() {
                super::with_a_stale_lease_gets_the_right_address(&$client);
            }

            #[test]
            fn moved_to_another_pod_rebinds() {
                super::moved_to_another_pod_rebinds(&$client);
            }
        })*
    };
}

matrix! {
    with_udhcpc6: Udhcpc6;
    with_dhclient: Dhclient;
    with_dhcpcd: Dhcpcd;
    with_networkd: Networkd;
    with_network_manager: NetworkManager;
}

fn gets_all_that_it_asks_for_and_renews(client: &dyn Client) {
    let pod = site::pod(ADDRESS, &["--lease-seconds", "10"]);
    let server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", MAC);
    let disk = Disk::new();
    client.install(&guest, &disk);
    settled(&guest);
    let _running = client.start(&guest, &disk, None);
    assert_eq!(server.event("acked")["address"], ADDRESS);
    wait_until("the client is told", || {
        client.told(&guest, &disk).is_some()
    });

    let expected = Told::of([
        ADDRESS,
        "2001:db8::53 2001:db8::54",
        "svc.cluster.local cluster.local",
        "2001:db8::123",
        "vm",
    ])
    .without(client.never_asks_for());
    assert_eq!(client.told(&guest, &disk).unwrap(), expected);
    works(&guest);

    // Half of its time later.
    assert_eq!(server.event("acked")["address"], ADDRESS);
    works(&guest);
}

fn with_a_stale_lease_gets_the_right_address(client: &dyn Client) {
    let disk = Disk::new();
    {
        let pod = site::pod(STALE, &[]);
        let server = Serve::start(&pod);
        let guest = Guest::behind(&pod, "tap0", MAC);
        client.install(&guest, &disk);
        settled(&guest);
        let _running = client.start(&guest, &disk, None);
        assert_eq!(server.event("acked")["address"], STALE);
        wait_until("the client is told", || {
            client.told(&guest, &disk).is_some()
        });
    }
    // A reboot in another pod: of the interface nothing is left, nor of /run.
    // What the client had started ends after it, and may write there until then.
    wait_until("nothing is left in /run", || {
        std::fs::remove_dir_all(disk.path("run")).is_ok()
    });
    std::fs::create_dir(disk.path("run")).unwrap();
    let pod = site::pod(ADDRESS, &[]);
    let server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", MAC);
    client.install(&guest, &disk);
    settled(&guest);
    let _running = client.start(&guest, &disk, Some(STALE));
    if client.confirms() {
        assert_eq!(server.event("naked")["requested"], STALE);
    }
    assert_eq!(server.event("acked")["address"], ADDRESS);
    works(&guest);
}

fn moved_to_another_pod_rebinds(client: &dyn Client) {
    let lease = ["--lease-seconds", "10"];
    let (old, new) = (site::pod(STALE, &lease), site::pod(ADDRESS, &lease));
    let (first, second) = (Serve::start(&old), Serve::start(&new));
    let mut guest = Guest::behind(&old, "tap0", MAC);
    let disk = Disk::new();
    client.install(&guest, &disk);
    settled(&guest);
    let _running = client.start(&guest, &disk, None);
    assert_eq!(first.event("acked")["address"], STALE);
    // Else the reply might be lost on its way, and the first server be asked again and again.
    wait_until("the client is told", || {
        client.told(&guest, &disk).is_some()
    });
    // As a memory snapshot is restored: the guest notices nothing.
    guest.move_behind(&new, "tap0");
    assert_eq!(second.event("acked")["address"], ADDRESS);
    works(&guest);
}

#[test]
fn dhclient_without_a_lease_is_told_the_rest() {
    let pod = site::pod(ADDRESS, &[]);
    let _server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", MAC);
    let disk = Disk::new();
    Dhclient.install(&guest, &disk);
    settled(&guest);
    success(
        guest
            .command_on(&disk, "dhclient")
            .args(["-6", "-S", "-1", GUEST_LINK]),
    );
    let told = std::fs::read_to_string(disk.path("etc/resolv.conf")).unwrap();
    for line in [
        "nameserver 2001:db8::53",
        "nameserver 2001:db8::54",
        "search svc.cluster.local. cluster.local.",
    ] {
        assert!(told.contains(line), "{line:?} in {told}");
    }
}

#[test]
fn dhclient_gives_its_lease_back_and_gets_it_again() {
    let pod = site::pod(ADDRESS, &[]);
    let server = Serve::start(&pod);
    let guest = Guest::behind(&pod, "tap0", MAC);
    let disk = Disk::new();
    Dhclient.install(&guest, &disk);
    settled(&guest);
    {
        let _running = Dhclient.start(&guest, &disk, None);
        assert_eq!(server.event("acked")["address"], ADDRESS);
        wait_until("the client is told", || {
            Dhclient.told(&guest, &disk).is_some()
        });
    }
    // It would end that process, whose number another has now.
    std::fs::remove_file(disk.path("run/dhclient6.pid")).unwrap();
    success(
        guest
            .command_on(&disk, "dhclient")
            .args(["-6", "-r", GUEST_LINK]),
    );
    assert_eq!(server.event("released")["address"], ADDRESS);
    let _running = Dhclient.start(&guest, &disk, None);
    assert_eq!(server.event("acked")["address"], ADDRESS);
    works(&guest);
}

/// Waits until the guest has its address, no other and a router, and is reached and reaches.
fn works(guest: &Guest) {
    let ip = |what: &str| guest.namespace.ip(what);
    wait_until("the guest has its address and no other", || {
        let addresses = ip(&format!("-6 address show dev {GUEST_LINK} scope global"));
        addresses.contains(&format!("inet6 {ADDRESS}/"))
            && addresses.matches("inet6").count() == 1
            && !addresses.contains("tentative")
    });
    wait_until("the guest has its default route", || {
        ip("-6 route show default").contains(&format!("via fe80::1 dev {GUEST_LINK}"))
    });
    wait_until("the guest reaches what is behind its router", || {
        guest.reaches(BEYOND)
    });
}
