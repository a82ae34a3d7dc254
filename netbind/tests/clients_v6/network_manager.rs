//! NetworkManager's internal client, on a message bus of its own.

use crate::client::{Client, Told};
use crate::common::Process;
use crate::common::guest::{Disk, GUEST_LINK, Guest};
use crate::site::MAC;

const BUS: &str = r#"<busconfig>
<type>system</type>
<listen>unix:path=/run/bus</listen>
<auth>EXTERNAL</auth>
<policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy>
</busconfig>
"#;

const START: &str = "\
dbus-daemon --nofork --nopidfile --config-file=/etc/bus.conf --print-address=3 3>/run/bus.address &
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus
while [ ! -s /run/bus.address ]; do sleep 0.05; done
exec NetworkManager --no-daemon
";

/// Keeps nothing of DHCPv6 over a restart.
pub(crate) struct NetworkManager;

impl Client for NetworkManager {
    fn install(&self, guest: &Guest, disk: &Disk) {
        disk.write("etc/bus.conf", BUS);
        // The rest of the guest's interfaces are not for it.
        disk.write(
            "etc/NetworkManager/NetworkManager.conf",
            &format!(
                "[main]\nplugins=keyfile\n\
                 [keyfile]\nunmanaged-devices=except:interface-name:{GUEST_LINK}\n"
            ),
        );
        let connection = format!(
            "[connection]\nid=guest\nuuid=2f6b6b5c-5a3e-4b8e-9f0a-1c2d3e4f5a6b\ntype=ethernet\n\
             interface-name={GUEST_LINK}\n[ipv4]\nmethod=disabled\n[ipv6]\nmethod=auto\n"
        );
        // It reads none that others could.
        let file = "etc/NetworkManager/system-connections/guest.nmconnection";
        disk.write_mode(file, 0o600, &connection);
        std::fs::create_dir_all(disk.path("lib/NetworkManager")).unwrap();

        // It configures no tap by DHCP, and knows the guest's end of the cable for one. So it gets
        // an interface that looks like Ethernet, bridged to the tap.
        for line in [
            &format!("link set {GUEST_LINK} down name cable address 02:00:00:00:00:77"),
            &format!("link add {GUEST_LINK} address {MAC} type veth peer name socket"),
            "link add switch type bridge mcast_snooping 0",
            "link set cable addrgenmode none master switch up",
            "link set socket addrgenmode none master switch up",
            "link set switch addrgenmode none up",
            &format!("link set {GUEST_LINK} up"),
        ] {
            guest.namespace.ip(line);
        }
    }

    fn start(&self, guest: &Guest, disk: &Disk, _: Option<&str>) -> Process {
        // Its bus's socket from an earlier start would keep it from making one.
        for file in ["run/bus", "run/bus.address"] {
            let _ = std::fs::remove_file(disk.path(file));
        }
        Process::start(guest.command_on(disk, "sh").args(["-c", START]))
    }

    fn told(&self, guest: &Guest, disk: &Disk) -> Option<Told> {
        let bus = format!("unix:path={}", disk.path("run/bus").display());
        let mut nmcli = guest.namespace.command("nmcli");
        nmcli.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        nmcli.args(["--terse", "--fields", "DHCP6", "device", "show", GUEST_LINK]);
        // DHCP6.OPTION[1]:name = value
        let output = String::from_utf8(nmcli.output().ok()?.stdout).unwrap();
        let values = output
            .lines()
            .filter_map(|line| line.split_once(':')?.1.split_once(" = "));
        let value = |wanted: &str| {
            let mut values = values.clone();
            values
                .find(|(name, _)| *name == wanted)
                .map_or("", |(_, value)| value)
        };
        Told::of([
            value("ip6_address"),
            value("dhcp6_name_servers"),
            value("dhcp6_domain_search"),
            value("dhcp6_ntp_servers"),
            value("fqdn_fqdn"),
        ])
        .complete()
    }

    fn never_asks_for(&self) -> &'static [&'static str] {
        &["name"]
    }
}
