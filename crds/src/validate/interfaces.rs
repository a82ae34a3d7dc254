//! Rules about interfaces.

use std::net::Ipv4Addr;

use super::text::{self, Unique};
use crate::field::Field;
use crate::{DHCPOptions, FieldError, Interface, Network, Port, VirtualMachineInstanceSpec};

/// The options of DHCP that are for private use here (RFC 3942, section 4, and KubeVirt's API).
const PRIVATE_OPTIONS: std::ops::RangeInclusive<i32> = 224..=254;

pub(super) fn check(spec: &VirtualMachineInstanceSpec, at: &Field, errors: &mut Vec<FieldError>) {
    let interfaces_at = at.at("domain.devices.interfaces");
    let mut names = Unique::new("give each interface a name of its own");
    let mut macs = Unique::new("give each interface a MAC address of its own");
    let mut indices = Unique::new("give each interface an index of its own");
    let mut port_names = Unique::new("give each port a name of its own");
    for (index, interface) in spec.domain.devices.interfaces.iter().enumerate() {
        let at = interfaces_at.index(index);
        names.add(format!("{:?}", interface.name), at.at("name"), errors);
        let name = &interface.name;
        let network = spec.networks.iter().find(|network| network.name == *name);
        if network.is_none() {
            errors.push(at.at("name").error(format!(
                "no network is named {name:?}; add it to networks, or remove the interface"
            )));
        }
        binding(interface, network, &at, errors);
        if let Some(mac) = &interface.mac_address {
            mac_address(mac, &at.at("macAddress"), errors);
            macs.add(
                mac.to_lowercase().replace('-', ":"),
                at.at("macAddress"),
                errors,
            );
        }
        if let Some(acpi) = interface.acpi_index {
            if !(1..=16383).contains(&acpi) {
                let detail = format!("{acpi} is out of range; use 1 to 16383");
                errors.push(at.at("acpiIndex").error(detail));
            }
            indices.add(acpi, at.at("acpiIndex"), errors);
        }
        addresses_and_ports(interface, &at, &mut port_names, errors);
        if let Some(options) = &interface.dhcp_options {
            dhcp(options, &at.at("dhcpOptions"), errors);
        }
    }
}

/// One binding, and one that the network can have.
fn binding(
    interface: &Interface,
    network: Option<&Network>,
    at: &Field,
    errors: &mut Vec<FieldError>,
) {
    match (&interface.bridge, &interface.masquerade) {
        (None, None) => errors.push(at.error("has no binding; add bridge: {} or masquerade: {}")),
        (Some(_), Some(_)) => {
            errors.push(at.error("has two bindings; leave one of bridge and masquerade"));
        }
        (None, Some(_)) if network.is_some_and(|network| network.pod.is_none()) => {
            errors.push(at.at("masquerade").error(
                "is for the pod's own network, and this one is another; use bridge: {} instead",
            ));
        }
        _ => {}
    }
}

fn mac_address(mac: &str, at: &Field, errors: &mut Vec<FieldError>) {
    let separator = if mac.contains('-') { '-' } else { ':' };
    let octets: Option<Vec<u8>> = mac
        .split(separator)
        .map(|octet| match octet.as_bytes() {
            [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                u8::from_str_radix(octet, 16).ok()
            }
            _ => None,
        })
        .collect();
    match octets.as_deref() {
        // The first octet's lowest bit marks a group (IEEE 802, section 8.2.2).
        Some([first, _, _, _, _, _]) if first & 1 == 1 => errors.push(at.error(format!(
            "{mac:?} is the address of a group; make the second digit even"
        ))),
        Some([0, 0, 0, 0, 0, 0]) => {
            errors.push(at.error(format!(
                "{mac:?} is no address of an interface; choose another"
            )));
        }
        Some([_, _, _, _, _, _]) => {}
        _ => errors.push(at.error(format!(
            "{mac:?} is no MAC address; write one such as 02:00:00:12:34:56"
        ))),
    }
}

fn addresses_and_ports(
    interface: &Interface,
    at: &Field,
    names: &mut Unique<String>,
    errors: &mut Vec<FieldError>,
) {
    if let Some(address) = &interface.pci_address {
        text::pci_address(address, &at.at("pciAddress"), errors);
    }
    for (index, Port { name, port, .. }) in interface.ports.iter().enumerate() {
        let at = at.at("ports").index(index);
        if !(1..=65535).contains(port) {
            errors.push(
                at.at("port")
                    .error(format!("{port} is no port; use 1 to 65535")),
            );
        }
        if let Some(name) = name {
            // The name of a port, as Services refer to it (RFC 6335, section 5.1).
            if name.len() > 15
                || !text::is_dns_label(name)
                || !name.contains(|c: char| c.is_ascii_lowercase())
            {
                errors.push(at.at("name").error(format!(
                    "{name:?} is no name of a port; use up to 15 of a-z 0-9 and -, at least one \
                     of them a letter"
                )));
            }
            names.add(format!("{name:?}"), at.at("name"), errors);
        }
    }
}

fn dhcp(options: &DHCPOptions, at: &Field, errors: &mut Vec<FieldError>) {
    for (index, server) in options.ntp_servers.iter().enumerate() {
        if server.parse::<Ipv4Addr>().is_err() {
            errors.push(at.at("ntpServers").index(index).error(format!(
                "{server:?} is no IPv4 address; option 42 holds nothing else"
            )));
        }
    }
    let files = [
        ("bootFileName", &options.boot_file_name),
        ("tftpServerName", &options.tftp_server_name),
    ];
    for (name, value) in files {
        if let Some(value) = value {
            option_length(value, &at.at(name), errors);
        }
    }
    let mut numbers = Unique::new("leave one of the two");
    for (index, private) in options.private_options.iter().enumerate() {
        let at = at.at("privateOptions").index(index);
        if !PRIVATE_OPTIONS.contains(&private.option) {
            errors.push(at.at("option").error(format!(
                "{} is not for private use; use {} to {}",
                private.option,
                PRIVATE_OPTIONS.start(),
                PRIVATE_OPTIONS.end()
            )));
        }
        numbers.add(private.option, at.at("option"), errors);
        option_length(&private.value, &at.at("value"), errors);
    }
}

/// An option of DHCP holds 1 to 255 bytes (RFC 2132, section 2).
fn option_length(value: &str, at: &Field, errors: &mut Vec<FieldError>) {
    if !(1..=255).contains(&value.len()) {
        let bytes = value.len();
        errors.push(at.error(format!(
            "has {bytes} bytes; an option of DHCP holds 1 to 255"
        )));
    }
}
