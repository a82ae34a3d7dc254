//! `spec.domain.devices.interfaces` and `spec.networks`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use sha2::{Digest, Sha256};

/// A network interface. It is connected to the network of the same name.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Index that ACPI tells the guest, which names the interface by it: 1 to 16383.
    #[schemars(with = "Option<i32>")]
    pub acpi_index: Option<u32>,
    /// Place in the order of boot devices, from 1; no two devices have the same.
    #[schemars(with = "Option<i32>")]
    pub boot_order: Option<u32>,
    /// Give the guest the pod's own IP and MAC addresses.
    pub bridge: Option<InterfaceBridge>,
    /// Options of DHCP beyond those that the pod's network gives.
    pub dhcp_options: Option<DHCPOptions>,
    /// The guest's MAC address. Defaults to the pod's.
    pub mac_address: Option<String>,
    /// Give the guest an address of its own behind the pod's, with NAT between the two.
    pub masquerade: Option<InterfaceMasquerade>,
    /// The device's model. Defaults to virtio.
    pub model: Option<InterfaceModel>,
    /// Its name, that of a network.
    pub name: String,
    /// Its place on the PCI bus, such as `0000:00:08.0`.
    pub pci_address: Option<String>,
    /// Ports that the guest serves. With masquerade only these are reachable, or every one where
    /// none is named; with bridge every port is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// Give the guest the pod's own IP and MAC addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceBridge {}

/// Give the guest an address of its own behind the pod's, with NAT between the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceMasquerade {}

/// An interface's model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceModel {
    /// Intel 82540EM.
    E1000,
    /// Intel 82574L.
    E1000e,
    /// Intel 82576.
    Igb,
    /// NE2000 on PCI.
    #[serde(rename = "ne2k_pci")]
    Ne2kPci,
    /// AMD PCnet.
    Pcnet,
    /// Realtek 8139.
    Rtl8139,
    /// virtio-net.
    Virtio,
}

/// Options of DHCP.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DHCPOptions {
    /// Option 67.
    pub boot_file_name: Option<String>,
    /// Option 42: IPv4 addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp_servers: Vec<String>,
    /// Options for private use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private_options: Vec<DHCPPrivateOptions>,
    /// Option 66.
    pub tftp_server_name: Option<String>,
}

/// An option of DHCP for private use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DHCPPrivateOptions {
    /// The option's number: 224 to 254.
    pub option: i32,
    /// What it says.
    pub value: String,
}

/// A port that the guest serves.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    /// Its name, by which Services may refer to it.
    pub name: Option<String>,
    /// Its number: 1 to 65535.
    pub port: i32,
    /// Its protocol. Defaults to TCP.
    pub protocol: Option<PortProtocol>,
}

/// A port's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PortProtocol {
    /// TCP.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

/// What an interface is connected to: one of `pod` and `multus`.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// A network of the cluster's that multus attaches the pod to.
    pub multus: Option<MultusNetwork>,
    /// Its name, that of an interface.
    pub name: String,
    /// The pod's own network.
    pub pod: Option<PodNetwork>,
}

/// A network of the cluster's that multus attaches the pod to.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultusNetwork {
    /// Make it the pod's own network, in the place of the cluster's default. Defaults to false.
    pub default: Option<bool>,
    /// The NetworkAttachmentDefinition: `name`, or `namespace/name` where it is not in the
    /// instance's namespace.
    pub network_name: String,
}

/// The pod's own network.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodNetwork {
    /// The network between pod and guest with masquerade. Defaults to `fd10:0:2::/120`.
    #[serde(rename = "vmIPv6NetworkCIDR")]
    pub vm_ipv6_network_cidr: Option<String>,
    /// The network between pod and guest with masquerade. Defaults to `10.0.2.0/24`.
    #[serde(rename = "vmNetworkCIDR")]
    pub vm_network_cidr: Option<String>,
}

impl Network {
    /// Whether it is what the pod's first interface, `eth0`, is on: the pod's own network, or the
    /// one that multus puts in its place.
    pub fn is_primary(&self) -> bool {
        let multus = self.multus.as_ref();
        self.pod.is_some() || multus.is_some_and(|multus| multus.default == Some(true))
    }

    /// What stands for it in the names of its interfaces in the pod, such as `pod16477688c0e`, where
    /// it is not the primary one: the first digits of the SHA-256 of its name, as with KubeVirt.
    pub fn digits(&self) -> String {
        /// As many as fit a name of 15 bytes behind `k6t-`.
        const DIGITS: usize = 11;

        let digest = Sha256::digest(&self.name);
        let mut digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.truncate(DIGITS);
        digits
    }

    /// The name of the pod's interface on it, where it is not the primary one. Whoever makes the
    /// pod asks multus for this name.
    pub fn pod_interface(&self) -> String {
        format!("pod{}", self.digits())
    }
}
