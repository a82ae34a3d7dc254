//! Which of the pod's interfaces is which of the VMI's: KubeVirt's naming scheme.
//!
//! ```text
//! network  the pod's own, or multus' default  any other, named "blue"
//! pod      eth0                               pod16477688c0e
//! bridge   k6t-eth0                           k6t-16477688c0e
//! tap      tap0                               tap16477688c0e
//! ```
//!
//! The digits are the first of the SHA-256 of the network's name in the VMI. Whoever makes the pod
//! asks multus for these names in the pod's networks annotation, so that nobody has to find out
//! later which interface belongs to which network.

use crds::{Interface, Network, VirtualMachineInstance};

/// The pod's first interface.
pub const PRIMARY: &str = "eth0";

/// An interface of a VMI, and what stands for it in the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment<'a> {
    /// Its place among the VMI's interfaces, from 0.
    pub index: u32,
    /// The interface.
    pub interface: &'a Interface,
    /// What it is connected to.
    pub network: &'a Network,
    /// The name of the pod's interface.
    pub device: String,
    /// The name of the tap.
    pub tap: String,
}

/// The interfaces of a valid VMI, in its order. `primary` is the name of the pod's first interface,
/// [`PRIMARY`] everywhere but where somebody named it otherwise.
pub fn attachments<'a>(
    vmi: &'a VirtualMachineInstance,
    primary: &str,
) -> impl Iterator<Item = Attachment<'a>> {
    let spec = &vmi.spec;
    let interfaces = spec.domain.devices.interfaces.iter().zip(0..);
    interfaces.filter_map(move |(interface, index)| {
        let mut networks = spec.networks.iter();
        let network = networks.find(|network| network.name == interface.name)?;
        let (device, tap) = if network.is_primary() {
            (primary.to_owned(), "tap0".to_owned())
        } else {
            (network.pod_interface(), format!("tap{}", network.digits()))
        };
        Some(Attachment {
            index,
            interface,
            network,
            device,
            tap,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubevirt() {
        let vmi: VirtualMachineInstance = serde_json::from_value(serde_json::json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "vm"},
            "spec": {
                "domain": {"devices": {"interfaces": [
                    {"name": "default"}, {"name": "own"}, {"name": "other"}, {"name": "nowhere"},
                ]}},
                "networks": [
                    {"name": "own", "pod": {}},
                    {"name": "other", "multus": {"networkName": "a", "default": true}},
                    {"name": "default", "multus": {"networkName": "a"}},
                ],
            },
        }))
        .unwrap();
        let names: Vec<_> = attachments(&vmi, "eth0")
            .map(|found| {
                let bridge = netbind::bridge_name(&found.device);
                (found.index, found.device, bridge, found.tap)
            })
            .collect();
        let expected = [
            // KubeVirt's own tests have these digits for a network named "default".
            (0, "pod37a8eec1ce1", "k6t-37a8eec1ce1", "tap37a8eec1ce1"),
            (1, "eth0", "k6t-eth0", "tap0"),
            (2, "eth0", "k6t-eth0", "tap0"),
        ];
        let expected = expected.map(|(index, device, bridge, tap)| {
            (index, device.to_owned(), bridge.to_owned(), tap.to_owned())
        });
        assert_eq!(names, expected);
    }
}
