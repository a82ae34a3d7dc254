//! `status.interfaces`.

use std::net::IpAddr;

use crds::{
    InterfaceModel, Network, VirtualMachineInstance, VirtualMachineInstanceNetworkInterface,
    VirtualMachineInstanceSpec, VirtualMachineInstanceStatus,
};

use super::{Guest, Interface, PodFacts, Report};

type Shown = VirtualMachineInstanceNetworkInterface;

/// The pod's first interface.
const PRIMARY: &str = "eth0";

/// The guest's further interfaces that are shown, at most.
const FURTHER: usize = 16;

/// `infoSource` by who told: libvirt's domain (here: the launcher), the agent.
const DOMAIN: &str = "domain";
const BOTH: &str = "domain, guest-agent";
const AGENT: &str = "guest-agent";

/// Whether an interface of the VMI's is on the pod's own network, and so has the pod's addresses.
pub(super) fn on_pod_network(spec: &VirtualMachineInstanceSpec) -> bool {
    let interfaces = &spec.domain.devices.interfaces;
    let mut networks = interfaces
        .iter()
        .filter_map(|found| network(spec, &found.name));
    networks.any(Network::is_primary)
}

fn network<'a>(spec: &'a VirtualMachineInstanceSpec, name: &str) -> Option<&'a Network> {
    spec.networks.iter().find(|network| network.name == name)
}

/// The VMI's interfaces, the one on the pod's network first (`kubectl get vmi` shows its address),
/// then what else the agent sees in the guest.
///
/// The addresses on the pod's network are the pod's, as the kubelet tells them: all of them behind
/// masquerade, those that the guest is offered with bridge. So a launcher cannot show another
/// pod's.
pub(super) fn interfaces(
    vmi: &VirtualMachineInstance,
    current: &VirtualMachineInstanceStatus,
    pod: &PodFacts,
    report: &Report,
    guest: Option<&Guest>,
    agent: bool,
) -> Vec<Shown> {
    let spec = &vmi.spec;
    let ours = spec
        .domain
        .devices
        .interfaces
        .iter()
        .filter_map(|interface| {
            let network = network(spec, &interface.name)?;
            let told = report
                .interfaces
                .iter()
                .find(|told| told.name == interface.name);
            let mac = told
                .and_then(|told| told.mac.clone())
                .or_else(|| interface.mac_address.clone());
            let in_guest = guest.and_then(|guest| by_mac(guest, mac.as_deref()?));
            let offered = told.map_or(&[][..], |told| &told.addresses);
            let before = current
                .interfaces
                .iter()
                .find(|known| known.name.as_ref() == Some(&interface.name));
            let ips = match (network.is_primary(), in_guest) {
                // A kubelet that is starting tells none for a moment; the pod has them all the same.
                (true, _) if pod.ips.is_empty() => before.map_or(vec![], known_addresses),
                (true, _) if interface.masquerade.is_some() => pod.ips.clone(),
                (true, _) => {
                    let offered = |ip: &&_| offered.contains(ip);
                    pod.ips.iter().filter(offered).copied().collect()
                }
                (false, Some(found)) if offered.is_empty() => found.addresses.clone(),
                (false, _) => offered.to_vec(),
            };
            let mut shown = Shown {
                name: Some(interface.name.clone()),
                info_source: Some(DOMAIN.to_owned()),
                link_state: Some("up".to_owned()),
                pod_interface_name: Some(if network.is_primary() {
                    PRIMARY.to_owned()
                } else {
                    network.pod_interface()
                }),
                queue_count: queues(spec, interface.model),
                mac,
                ..with_addresses(&ips)
            };
            if agent {
                // Until the agent is asked anew, what it said before stays.
                shown.interface_name = match (guest, in_guest) {
                    (_, Some(found)) => Some(found.name.clone()),
                    (None, _) => before.and_then(|known| known.interface_name.clone()),
                    (Some(_), None) => None,
                };
                if shown.interface_name.is_some() {
                    shown.info_source = Some(BOTH.to_owned());
                }
            }
            Some((network.is_primary(), shown))
        });
    let mut ours: Vec<_> = ours.collect();
    ours.sort_by_key(|(primary, _)| !primary);
    let mut all: Vec<_> = ours.into_iter().map(|(_, shown)| shown).collect();
    let further = match guest {
        Some(guest) => further(guest, &all),
        None if agent => {
            let known = current.interfaces.iter();
            known
                .filter(|known| known.name.is_none())
                .cloned()
                .collect()
        }
        None => vec![],
    };
    all.extend(further);
    all
}

fn known_addresses(known: &Shown) -> Vec<IpAddr> {
    let known = known.ip_addresses.iter();
    known.filter_map(|address| address.parse().ok()).collect()
}

fn by_mac<'a>(guest: &'a Guest, mac: &str) -> Option<&'a Interface> {
    let mut interfaces = guest.interfaces.iter();
    interfaces.find(|found| {
        let found = found.mac.as_deref();
        found.is_some_and(|found| found.eq_ignore_ascii_case(mac))
    })
}

/// What the agent sees in the guest and nobody gave it: bridges, tunnels.
fn further(guest: &Guest, known: &[Shown]) -> Vec<Shown> {
    let is_known = |found: &&Interface| {
        let mac = found.mac.as_deref();
        let mut known = known.iter().filter_map(|known| known.mac.as_deref());
        mac.is_some_and(|mac| known.any(|known| known.eq_ignore_ascii_case(mac)))
    };
    let further = guest.interfaces.iter().filter(|found| !is_known(found));
    let further = further.map(|found| Shown {
        interface_name: Some(found.name.clone()),
        info_source: Some(AGENT.to_owned()),
        mac: found.mac.clone(),
        ..with_addresses(&found.addresses)
    });
    further.take(FURTHER).collect()
}

fn with_addresses(ips: &[IpAddr]) -> Shown {
    let ips: Vec<_> = ips.iter().map(ToString::to_string).collect();
    Shown {
        ip_address: ips.first().cloned(),
        ip_addresses: ips,
        ..Shown::default()
    }
}

/// The pairs of queues of a virtio card: one for each virtual CPU where that is asked for.
fn queues(spec: &VirtualMachineInstanceSpec, model: Option<InterfaceModel>) -> Option<i32> {
    /// The kernel's limit on the queues of a tap.
    const MOST: u32 = 256;

    if !matches!(model, None | Some(InterfaceModel::Virtio)) {
        return None;
    }
    if spec.domain.devices.network_interface_multiqueue != Some(true) {
        return Some(1);
    }
    let cpu = spec.domain.cpu.clone().unwrap_or_default();
    let count = [cpu.sockets, cpu.cores, cpu.threads].into_iter().flatten();
    let count = count.fold(1_u32, u32::saturating_mul).min(MOST);
    i32::try_from(count).ok()
}
