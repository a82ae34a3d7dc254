//! Clients that hand what they were told to a script: the distribution's, where it has one, and
//! behind it ours, which writes it down.

use std::process::Stdio;

use crate::client::{Client, Told};
use crate::common::Process;
use crate::common::guest::{Disk, GUEST_LINK, Guest, busybox};

/// Writes down what the script was told, at once or not at all.
const WRITE: &str = "env > /run/told.new && mv /run/told.new /run/told\n";

/// busybox's client, which Debian leaves out of its busybox. Keeps nothing over a restart.
pub(crate) struct Udhcpc6;

impl Client for Udhcpc6 {
    fn install(&self, _: &Guest, disk: &Disk) {
        let script = format!(
            "#!/bin/sh\ncase $1 in\n\
             deconfig) ip -6 address flush dev $interface scope global;;\n\
             bound | renew) ip -6 address replace $ipv6/128 dev $interface; {WRITE};;\nesac\n"
        );
        disk.write_mode("etc/udhcpc6.sh", 0o755, &script);
    }

    fn start(&self, guest: &Guest, disk: &Disk, stale: Option<&str>) -> Process {
        let mut command = guest.command_on(disk, busybox().to_str().unwrap());
        command.args(["udhcpc6", "-f", "-i", GUEST_LINK, "-s", "/etc/udhcpc6.sh"]);
        command.args(["-t", "20", "-T", "1", "-O", "fqdn"]);
        if let Some(stale) = stale {
            command.args(["-r", stale]);
        }
        Process::start(command.stdout(Stdio::null()))
    }

    fn told(&self, _: &Guest, disk: &Disk) -> Option<Told> {
        let names = ["ipv6", "dns", "search", "", "fqdn"];
        Told::read(&disk.path("run/told"), names)
    }

    /// It knows no time servers.
    fn never_asks_for(&self) -> &'static [&'static str] {
        &["ntp"]
    }
}

/// ISC's client.
pub(crate) struct Dhclient;

impl Client for Dhclient {
    fn install(&self, _: &Guest, disk: &Disk) {
        let hook = format!("[ -z \"$new_ip6_address\" ] || {{ {WRITE}}}\n");
        disk.write("etc/dhcp/dhclient-exit-hooks.d/told", &hook);
        std::fs::create_dir_all(disk.path("lib/dhcp")).unwrap();
    }

    fn start(&self, guest: &Guest, disk: &Disk, _: Option<&str>) -> Process {
        let mut command = guest.command_on(disk, "dhclient");
        command.args(["-6", "-d", GUEST_LINK]);
        Process::start(command.stdout(Stdio::null()))
    }

    fn told(&self, _: &Guest, disk: &Disk) -> Option<Told> {
        let names = [
            "new_ip6_address",
            "new_dhcp6_name_servers",
            "new_dhcp6_domain_search",
            "new_dhcp6_sntp_servers",
            "new_fqdn_hostname",
        ];
        Told::read(&disk.path("run/told"), names)
    }

    fn never_asks_for(&self) -> &'static [&'static str] {
        &[]
    }

    fn confirms(&self) -> bool {
        true
    }
}

/// dhcpcd.
pub(crate) struct Dhcpcd;

impl Client for Dhcpcd {
    fn install(&self, _: &Guest, disk: &Disk) {
        let hook = format!("[ -z \"$new_dhcp6_ia_na1_ia_addr1\" ] || {{ {WRITE}}}\n");
        disk.write("etc/dhcpcd.exit-hook", &hook);
        std::fs::create_dir_all(disk.path("lib/dhcpcd")).unwrap();
    }

    fn start(&self, guest: &Guest, disk: &Disk, _: Option<&str>) -> Process {
        let mut command = guest.command_on(disk, "dhcpcd");
        // What it can ask for and does not by itself.
        command.args(["-B", "-6", "-o", "dhcp6_sntp_servers", "-o", "dhcp6_fqdn"]);
        Process::start(command.arg(GUEST_LINK).stdout(Stdio::null()))
    }

    fn told(&self, _: &Guest, disk: &Disk) -> Option<Told> {
        let names = [
            "new_dhcp6_ia_na1_ia_addr1",
            "new_dhcp6_name_servers",
            "new_dhcp6_domain_search",
            "new_dhcp6_sntp_servers",
            "new_dhcp6_fqdn",
        ];
        Told::read(&disk.path("run/told"), names)
    }

    fn never_asks_for(&self) -> &'static [&'static str] {
        &[]
    }

    fn confirms(&self) -> bool {
        true
    }
}
