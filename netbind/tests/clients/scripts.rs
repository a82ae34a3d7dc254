//! Clients that hand what they were told to a script: the distribution's, and behind it ours,
//! which writes it down.

use std::process::Stdio;

use crate::client::{Client, Told};
use crate::common::Process;
use crate::common::guest::{Disk, GUEST_LINK, Guest};

/// Writes down what the script was told, at once or not at all.
const WRITE: &str = "env > /run/told.new && mv /run/told.new /run/told\n";

fn written(disk: &Disk) -> Option<String> {
    std::fs::read_to_string(disk.path("run/told")).ok()
}

/// busybox's client. Keeps nothing over a restart.
pub(crate) struct Udhcpc;

impl Client for Udhcpc {
    fn name(&self) -> &'static str {
        "udhcpc"
    }

    fn install(&self, _: &Guest, disk: &Disk) {
        let script = format!(
            "#!/bin/sh\n/etc/udhcpc/default.script \"$@\"\n\
             case $1 in bound | renew) {WRITE};; esac\n"
        );
        disk.write_mode("etc/udhcpc.sh", 0o755, &script);
    }

    fn start(&self, guest: &Guest, disk: &Disk) -> Process {
        let mut command = guest.command_on(disk, "udhcpc");
        command.args([
            "-f",
            "-i",
            GUEST_LINK,
            "-s",
            "/etc/udhcpc.sh",
            "-t",
            "20",
            "-T",
            "1",
        ]);
        // What it can ask for and does not by itself.
        for option in ["mtu", "search", "ntpsrv", "staticroutes"] {
            command.args(["-O", option]);
        }
        Process::start(command.stdout(Stdio::null()))
    }

    fn told(&self, _: &Guest, disk: &Disk) -> Option<Told> {
        let names = [
            "ip",
            "subnet",
            "router",
            "staticroutes",
            "dns",
            "search",
            "domain",
            "hostname",
            "mtu",
            "ntpsrv",
        ];
        Some(Told::read(&written(disk)?, names))
    }

    fn remember(&self, _: &Guest, _: &Disk, _: &str) -> bool {
        false
    }
}

/// ISC's client.
pub(crate) struct Dhclient;

impl Client for Dhclient {
    fn name(&self) -> &'static str {
        "dhclient"
    }

    fn install(&self, _: &Guest, disk: &Disk) {
        let hook = format!("[ -z \"$new_ip_address\" ] || {{ {WRITE}}}\n");
        disk.write("etc/dhcp/dhclient-exit-hooks.d/told", &hook);
        // It repeats a question after ten seconds or more, when a test's short lease has ended.
        let conf = std::fs::read_to_string(disk.path("etc/dhcp/dhclient.conf")).unwrap();
        let conf = conf + "initial-interval 1;\nbackoff-cutoff 2;\n";
        disk.write("etc/dhcp/dhclient.conf", &conf);
        std::fs::create_dir(disk.path("lib/dhcp")).unwrap();
    }

    fn start(&self, guest: &Guest, disk: &Disk) -> Process {
        let mut command = guest.command_on(disk, "dhclient");
        command.args(["-4", "-d", GUEST_LINK]);
        Process::start(command.stdout(Stdio::null()))
    }

    fn told(&self, _: &Guest, disk: &Disk) -> Option<Told> {
        let names = [
            "new_ip_address",
            "new_subnet_mask",
            "new_routers",
            "new_rfc3442_classless_static_routes",
            "new_domain_name_servers",
            "new_domain_search",
            "new_domain_name",
            "new_host_name",
            "new_interface_mtu",
            "new_ntp_servers",
        ];
        let mut told = Told::read(&written(disk)?, names);
        told.routes = routes(&told.routes);
        // It makes names absolute.
        let search = told
            .search
            .split(' ')
            .map(|name| name.trim_end_matches('.'));
        told.search = search.collect::<Vec<_>>().join(" ");
        Some(told)
    }
}

/// Routes from the option's bytes in decimal (RFC 3442).
fn routes(bytes: &str) -> String {
    let mut bytes = bytes.split(' ').map(|byte| byte.parse::<u8>().unwrap());
    let mut routes = Vec::new();
    while let Some(width) = bytes.next() {
        let mut octets = |count| {
            let mut octets = [0; 4];
            octets[..count].fill_with(|| bytes.next().unwrap());
            std::net::Ipv4Addr::from(octets)
        };
        let destination = octets(usize::from(width).div_ceil(8));
        routes.push(format!("{destination}/{width} {}", octets(4)));
    }
    routes.join(" ")
}

/// dhcpcd.
pub(crate) struct Dhcpcd;

impl Client for Dhcpcd {
    fn name(&self) -> &'static str {
        "dhcpcd"
    }

    fn install(&self, _: &Guest, disk: &Disk) {
        let hook = format!("[ -z \"$new_ip_address\" ] || {{ {WRITE}}}\n");
        disk.write("etc/dhcpcd.exit-hook", &hook);
        std::fs::create_dir(disk.path("lib/dhcpcd")).unwrap();
    }

    fn start(&self, guest: &Guest, disk: &Disk) -> Process {
        let mut command = guest.command_on(disk, "dhcpcd");
        // The one option of the lease that its configuration does not ask for.
        command.args(["-B", "-4", "-o", "ntp_servers", GUEST_LINK]);
        Process::start(command.stdout(Stdio::null()))
    }

    fn told(&self, _: &Guest, disk: &Disk) -> Option<Told> {
        let names = [
            "new_ip_address",
            "new_subnet_mask",
            "new_routers",
            "new_classless_static_routes",
            "new_domain_name_servers",
            "new_domain_search",
            "new_domain_name",
            "new_host_name",
            "new_interface_mtu",
            "new_ntp_servers",
        ];
        Some(Told::read(&written(disk)?, names))
    }
}
