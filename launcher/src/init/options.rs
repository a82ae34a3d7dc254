//! What netbind is asked for, from an interface of the VMI. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use crds::{Interface, PortProtocol, VirtualMachineInstance};
use netbind::dhcp::SERVER_ID;
use netbind::{Binding, DhcpOptions, Expect, Masquerade, Port, Protocol, SetupOptions, TapOptions};

use super::InitArgs;
use crate::convert::queue_pairs;
use crate::network::Attachment;
use crate::pod::QEMU_ID;

/// How one interface is bound; `state_file` is where netbind keeps what it found.
///
/// Validation has seen that every value that is parsed here parses.
pub(super) fn setup_options(
    args: &InitArgs,
    vmi: &VirtualMachineInstance,
    attachment: &Attachment<'_>,
    state_file: PathBuf,
) -> SetupOptions {
    let hostname = vmi.spec.hostname.clone();
    let expected = args.expect.iter();
    let expected = expected.filter(|expected| expected.device == attachment.device);
    SetupOptions {
        interface: attachment.device.clone(),
        expect: Expect {
            timeout: args.network_timeout,
            addresses: expected.flat_map(|e| e.addresses.clone()).collect(),
        },
        binding: binding(vmi, attachment),
        state_file,
        tap: TapOptions {
            name: attachment.tap.clone(),
            owner: QEMU_ID,
            group: QEMU_ID,
            multi_queue: queue_pairs(&vmi.spec.domain, attachment.interface) > 1,
        },
        resolv_conf: args.resolv_conf.clone(),
        hostname: hostname.or_else(|| vmi.metadata.name.clone()),
        dhcp: DhcpOptions {
            server_id: Ipv4Addr::from_bits(SERVER_ID.to_bits() + attachment.index),
            ..dhcp_options(attachment.interface)
        },
    }
}

fn binding(vmi: &VirtualMachineInstance, attachment: &Attachment<'_>) -> Binding {
    if attachment.interface.masquerade.is_none() {
        return Binding::Bridge {
            anti_spoofing: crds::anti_spoofing(vmi),
        };
    }
    let pod = attachment.network.pod.clone().unwrap_or_default();
    let defaults = Masquerade::default();
    let ipv4 = pod.vm_network_cidr.and_then(|cidr| cidr.parse().ok());
    let ipv6 = pod.vm_ipv6_network_cidr.and_then(|cidr| cidr.parse().ok());
    let ports = attachment.interface.ports.iter().filter_map(|port| {
        Some(Port {
            protocol: match port.protocol {
                None | Some(PortProtocol::Tcp) => Protocol::Tcp,
                Some(PortProtocol::Udp) => Protocol::Udp,
            },
            port: u16::try_from(port.port).ok()?,
        })
    });
    Binding::Masquerade(Masquerade {
        ipv4: ipv4.unwrap_or(defaults.ipv4),
        ipv6: ipv6.unwrap_or(defaults.ipv6),
        ports: ports.collect(),
    })
}

/// The manifest's words for DHCP in netbind's.
fn dhcp_options(interface: &Interface) -> DhcpOptions {
    let client = interface.mac_address.as_ref();
    let mut options = DhcpOptions {
        client: client.and_then(|mac| mac.parse().ok()),
        ..DhcpOptions::default()
    };
    let Some(given) = &interface.dhcp_options else {
        return options;
    };
    options.boot_file_name = given.boot_file_name.clone();
    options.tftp_server_name = given.tftp_server_name.clone();
    let servers = given.ntp_servers.iter();
    options.ntp_servers = servers
        .filter_map(|server| server.parse::<IpAddr>().ok())
        .collect();
    options.private = given
        .private_options
        .iter()
        .filter_map(|private| Some((u8::try_from(private.option).ok()?, private.value.clone())))
        .collect();
    options
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::network::attachments;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        init: InitArgs,
    }

    /// The options of each interface of a VMI with these interfaces and networks.
    fn options(arguments: &[&str], interfaces: Value, networks: Value) -> Vec<SetupOptions> {
        let args = Cli::parse_from([&["init"], arguments].concat()).init;
        let vmi: VirtualMachineInstance = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {
                "name": "vm",
                "annotations": {crds::ANTI_SPOOFING: "disabled"},
            },
            "spec": {
                "domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": interfaces}},
                "networks": networks,
            },
        }))
        .unwrap();
        assert_eq!(crds::validate(&vmi), []);
        attachments(&vmi, &args.interface)
            .map(|attachment| setup_options(&args, &vmi, &attachment, "state".into()))
            .collect()
    }

    #[test]
    fn dhcp_options_are_carried_over() {
        let given = json!([{
            "name": "default",
            "bridge": {},
            "macAddress": "02:00:00:00:00:09",
            "dhcpOptions": {
                "bootFileName": "pxelinux.0",
                "tftpServerName": "tftp.example",
                "ntpServers": ["10.0.0.1"],
                "privateOptions": [{"option": 240, "value": "x"}],
            },
        }]);
        let made = options(&[], given, json!([{"name": "default", "pod": {}}]));
        let dhcp = &made[0].dhcp;
        assert_eq!(dhcp.boot_file_name.as_deref(), Some("pxelinux.0"));
        assert_eq!(dhcp.tftp_server_name.as_deref(), Some("tftp.example"));
        assert_eq!(dhcp.ntp_servers, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(dhcp.private[&240], "x");
        assert_eq!(dhcp.client, Some(netbind::Mac([2, 0, 0, 0, 0, 9])));
    }

    #[test]
    fn each_interface_has_its_own_device_tap_server_and_expected_addresses() {
        let interfaces = json!([{"name": "blue", "bridge": {}}, {"name": "default", "bridge": {}}]);
        let networks = json!([
            {"name": "default", "pod": {}},
            {"name": "blue", "multus": {"networkName": "blue"}},
        ]);
        let arguments = [
            "--expect=eth0=10.0.0.5,fd00::5",
            "--expect=pod16477688c0e=10.9.0.2",
            "--network-timeout=7",
        ];
        let made = options(&arguments, interfaces, networks);
        let told: Vec<_> = made
            .iter()
            .map(|options| {
                let addresses = &options.expect.addresses;
                let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
                (
                    options.interface.as_str(),
                    options.tap.name.as_str(),
                    options.dhcp.server_id.to_string(),
                    addresses.join(" "),
                )
            })
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|(device, tap, id, addresses)| (*device, *tap, id.as_str(), addresses.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "pod16477688c0e",
                    "tap16477688c0e",
                    "169.254.75.10",
                    "10.9.0.2"
                ),
                ("eth0", "tap0", "169.254.75.11", "10.0.0.5 fd00::5"),
            ]
        );
        assert!(
            made.iter()
                .all(|options| options.expect.timeout.as_secs() == 7)
        );
    }

    #[test]
    fn bindings_are_carried_over() {
        let cases = [
            (
                json!({"name": "default", "bridge": {}, "ports": [{"port": 80}]}),
                json!({}),
                Binding::Bridge {
                    anti_spoofing: false,
                },
            ),
            (
                json!({"name": "default", "masquerade": {}}),
                json!({}),
                Binding::Masquerade(Masquerade::default()),
            ),
            (
                json!({
                    "name": "default",
                    "masquerade": {},
                    "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}],
                }),
                json!({"vmNetworkCIDR": "10.11.0.0/16", "vmIPv6NetworkCIDR": "fd11::/64"}),
                Binding::Masquerade(Masquerade {
                    ipv4: "10.11.0.0/16".parse().unwrap(),
                    ipv6: "fd11::/64".parse().unwrap(),
                    ports: vec![
                        Port {
                            protocol: Protocol::Tcp,
                            port: 80,
                        },
                        Port {
                            protocol: Protocol::Udp,
                            port: 53,
                        },
                    ],
                }),
            ),
        ];
        for (interface, pod, expected) in cases {
            let networks = json!([{"name": "default", "pod": pod}]);
            let made = options(&[], json!([interface]), networks);
            assert_eq!(made[0].binding, expected);
        }
    }
}
