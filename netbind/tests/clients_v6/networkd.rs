//! systemd-networkd, without systemd, udev or D-Bus.

use crate::client::{Client, Told};
use crate::common::Process;
use crate::common::guest::{Disk, GUEST_LINK, Guest};

/// Keeps nothing of DHCPv6 over a restart.
pub(crate) struct Networkd;

impl Client for Networkd {
    fn install(&self, _: &Guest, disk: &Disk) {
        // What it was told by router advertisements would stand beside what the lease tells.
        let network = format!(
            "[Match]\nName={GUEST_LINK}\n[Network]\nDHCP=ipv6\n[DHCPv6]\nUseDomains=yes\n\
             [IPv6AcceptRA]\nUseDNS=no\nUseDomains=no\n"
        );
        disk.write("etc/systemd/network/guest.network", &network);
    }

    fn start(&self, guest: &Guest, disk: &Disk, _: Option<&str>) -> Process {
        // It makes what is below for a user of its own.
        std::fs::create_dir_all(disk.path("run/systemd")).unwrap();
        Process::start(&mut guest.command_on(disk, "/lib/systemd/systemd-networkd"))
    }

    fn told(&self, guest: &Guest, disk: &Disk) -> Option<Told> {
        // Named by the interface's index; it tells all but the address. Time servers are what only
        // the lease can have told it.
        let index = guest
            .namespace
            .within(|| nix::net::if_::if_nametoindex(GUEST_LINK));
        let file = disk.path(&format!("run/systemd/netif/links/{}", index.unwrap()));
        let text = std::fs::read_to_string(file).ok()?;
        let value = |wanted: &str| {
            let mut values = text.lines().filter_map(|line| line.split_once('='));
            let value = values.find(|(name, _)| *name == wanted)?.1;
            (!value.is_empty()).then_some(value)
        };
        let addresses = guest
            .namespace
            .ip(&format!("-6 -o address show dev {GUEST_LINK} dynamic"));
        let (address, _) = addresses.split_once("inet6 ")?.1.split_once('/')?;
        let told = [address, value("DNS")?, value("DOMAINS")?, value("NTP")?, ""];
        Some(Told::of(told))
    }

    /// It sends its name, and asks for none.
    fn never_asks_for(&self) -> &'static [&'static str] {
        &["name"]
    }
}
