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

pub(crate) struct NetworkManager;

impl Client for NetworkManager {
    fn name(&self) -> &'static str {
        "NetworkManager"
    }

    fn install(&self, guest: &Guest, disk: &Disk) {
        disk.write("etc/bus.conf", BUS);
        // Else it makes a connection of its own for `socket` below.
        let conf = "[main]\nplugins=keyfile\nno-auto-default=*\n";
        disk.write("etc/NetworkManager/NetworkManager.conf", conf);
        let connection = format!(
            "[connection]\nid=guest\nuuid=2f6b6b5c-5a3e-4b8e-9f0a-1c2d3e4f5a6b\ntype=ethernet\n\
             interface-name={GUEST_LINK}\n[ipv4]\nmethod=auto\n[ipv6]\nmethod=disabled\n"
        );
        // It reads none that others could.
        let file = "etc/NetworkManager/system-connections/guest.nmconnection";
        disk.write_mode(file, 0o600, &connection);
        std::fs::create_dir(disk.path("lib/NetworkManager")).unwrap();

        // It sees that the guest's interface is a tap, and wants no DHCP for one. So it gets one
        // that it takes for Ethernet, bridged to the tap.
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

    fn start(&self, guest: &Guest, disk: &Disk) -> Process {
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
        nmcli.args(["--terse", "--fields", "DHCP4", "device", "show", GUEST_LINK]);
        // Lines such as `DHCP4.OPTION[10]:ip_address = 10.1.1.2`.
        let options = String::from_utf8(nmcli.output().ok()?.stdout).unwrap();
        let options = options.lines().filter_map(|line| line.split_once(':'));
        let options: Vec<_> = options
            .map(|(_, option)| option.replace(" = ", "="))
            .collect();
        let names = [
            "ip_address",
            "subnet_mask",
            "routers",
            "rfc3442_classless_static_routes",
            "domain_name_servers",
            "domain_search",
            "domain_name",
            "host_name",
            "interface_mtu",
            "ntp_servers",
        ];
        Some(Told::read(&options.join("\n"), names)).filter(|told| !told.address.is_empty())
    }
}
