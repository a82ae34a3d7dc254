//! Rules about networks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::text::{self, Unique};
use crate::field::Field;
use crate::{FieldError, Interface, MultusNetwork, PodNetwork, VirtualMachineInstanceSpec};

pub(super) fn check(spec: &VirtualMachineInstanceSpec, at: &Field, errors: &mut Vec<FieldError>) {
    let mut names = Unique::new("give each network a name of its own");
    let mut primaries = Unique::new("a pod has one network; remove this one and its interface");
    for (index, network) in spec.networks.iter().enumerate() {
        let at = at.index(index);
        let name = &network.name;
        text::dns_label(name, &at.at("name"), errors);
        names.add(format!("{name:?}"), at.at("name"), errors);
        let interfaces = &spec.domain.devices.interfaces;
        let interface = interfaces.iter().find(|interface| interface.name == *name);
        match (&network.pod, &network.multus) {
            (Some(pod), None) => {
                primaries.add("the pod's network", at.at("pod"), errors);
                self::pod(pod, interface, &at.at("pod"), errors);
            }
            (None, Some(multus)) => {
                let at = at.at("multus");
                if network.is_primary() {
                    primaries.add("the pod's network", at.at("default"), errors);
                }
                self::multus(multus, &at, errors);
            }
            (None, None) => {
                errors.push(at.error("says nothing but its name; add pod: {} or multus"));
            }
            (Some(_), Some(_)) => {
                errors.push(at.error("is two networks at once; leave one of pod and multus"));
            }
        }
        if interface.is_none() {
            errors.push(at.at("name").error(format!(
                "no interface is named {name:?}; add it to domain.devices.interfaces, or remove \
                 the network"
            )));
        }
    }
}

fn pod(pod: &PodNetwork, interface: Option<&Interface>, at: &Field, errors: &mut Vec<FieldError>) {
    let given = [
        ("vmNetworkCIDR", &pod.vm_network_cidr, &IPV4),
        ("vmIPv6NetworkCIDR", &pod.vm_ipv6_network_cidr, &IPV6),
    ];
    for (name, cidr, family) in given {
        let Some(cidr) = cidr else { continue };
        let at = at.at(name);
        family.check(cidr, &at, errors);
        if interface.is_some_and(|interface| interface.masquerade.is_none()) {
            errors.push(at.error(
                "is for masquerade, and with bridge the guest has the pod's address; remove it, or \
                 bind the interface by masquerade: {}",
            ));
        }
    }
}

fn multus(multus: &MultusNetwork, at: &Field, errors: &mut Vec<FieldError>) {
    let name = &multus.network_name;
    let sound = match name.split_once('/') {
        Some((namespace, name)) => text::is_dns_label(namespace) && text::is_dns_subdomain(name),
        None => text::is_dns_subdomain(name),
    };
    if !sound {
        errors.push(at.at("networkName").error(format!(
            "{name:?} is no NetworkAttachmentDefinition's name; write name or namespace/name"
        )));
    }
}

/// What a network between pod and guest has to be like.
struct Family {
    name: &'static str,
    example: &'static str,
    /// The longest prefix that leaves room for the network's own address, the pod's, the guest's
    /// and the broadcast address; KubeVirt asks as much of both families.
    longest: u8,
}

const IPV4: Family = Family {
    name: "IPv4",
    example: "10.0.2.0/24",
    longest: 30,
};

const IPV6: Family = Family {
    name: "IPv6",
    example: "fd10:0:2::/120",
    longest: 126,
};

impl Family {
    fn check(&self, cidr: &str, at: &Field, errors: &mut Vec<FieldError>) {
        let Self {
            name,
            example,
            longest,
        } = self;
        let detail = match cidr.parse::<IpNet>() {
            Ok(net) if (net.max_prefix_len() == 32) != (*name == "IPv4") => {
                format!("{cidr:?} is no {name} network; write one such as {example}")
            }
            Ok(net) if net.prefix_len() > *longest => format!(
                "{cidr:?} has no room for the pod and the guest; use a prefix of up to {longest}"
            ),
            Ok(net) if !is_for_stations(net.network()) => {
                format!("{cidr:?} holds no addresses of stations; write one such as {example}")
            }
            Ok(_) => return,
            Err(_) => format!("{cidr:?} is no {name} network; write one such as {example}"),
        };
        errors.push(at.error(detail));
    }
}

/// Whether a network that begins so is one of unicast addresses that are routed.
fn is_for_stations(first: IpAddr) -> bool {
    match first {
        // 0/8 is this network, and what follows 224/4 is reserved (RFC 1122, section 3.2.1.3).
        IpAddr::V4(ip) => {
            (1..=223).contains(&ip.octets()[0]) && !ip.is_loopback() && !ip.is_link_local()
        }
        // 0000::/8 has the unspecified, the loopback and the mapped ones (RFC 4291, section 2.4).
        IpAddr::V6(ip) => ip.octets()[0] != 0 && !ip.is_multicast() && !ip.is_unicast_link_local(),
    }
}
