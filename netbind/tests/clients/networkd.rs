//! systemd-networkd, without systemd, udev or D-Bus.

use crate::client::{Client, Told};
use crate::common::Process;
use crate::common::guest::{Disk, GUEST_LINK, Guest};

pub(crate) struct Networkd;

impl Client for Networkd {
    fn name(&self) -> &'static str {
        "systemd-networkd"
    }

    fn install(&self, _: &Guest, disk: &Disk) {
        let network = format!(
            "[Match]\nName={GUEST_LINK}\n[Network]\nDHCP=ipv4\n[DHCPv4]\nUseDomains=yes\nUseMTU=yes\n"
        );
        disk.write("etc/systemd/network/guest.network", &network);
        std::fs::create_dir(disk.path("run/systemd")).unwrap();
    }

    fn start(&self, guest: &Guest, disk: &Disk) -> Process {
        Process::start(&mut guest.command_on(disk, "/lib/systemd/systemd-networkd"))
    }

    fn told(&self, _: &Guest, disk: &Disk) -> Option<Told> {
        // Named by the interface's index.
        let mut leases = std::fs::read_dir(disk.path("run/systemd/netif/leases")).ok()?;
        let names = [
            "ADDRESS",
            "NETMASK",
            "ROUTER",
            "CLASSLESS_ROUTES",
            "DNS",
            "DOMAIN_SEARCH_LIST",
            "DOMAINNAME",
            "HOSTNAME",
            "MTU",
            "NTP",
        ];
        let lease = std::fs::read_to_string(leases.next()?.ok()?.path()).ok()?;
        let mut told = Told::read(&lease, names);
        told.routes = told.routes.replace(',', " ");
        Some(told)
    }

    /// It keeps nothing but the address on the interface, and that only if it is told to.
    fn remember(&self, guest: &Guest, disk: &Disk, address: &str) -> bool {
        let keep = "[Network]\nKeepConfiguration=dhcp\n";
        disk.write("etc/systemd/network/guest.network.d/keep.conf", keep);
        let old = format!("address replace {address}/32 dev {GUEST_LINK}");
        guest
            .namespace
            .ip(&format!("{old} valid_lft 300 preferred_lft 300"));
        true
    }
}
