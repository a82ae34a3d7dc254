//! What multus is asked for: the pod's interfaces beyond its first, by the names under which the
//! launcher looks for them.
//!
//! Source: the Kubernetes Network Custom Resource Definition De-facto Standard, version 1.3,
//! section 4.1.1.

use crds::{Network, VirtualMachineInstance};
use serde::Serialize;

use super::RenderError;

/// The annotation that lists further networks.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// The annotation that names the network in the place of the cluster's default.
const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// A network selection element.
#[derive(Serialize)]
struct Selection<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    interface: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<&'a str>,
}

/// The annotations that ask for the instance's networks; none where it has but the pod's own.
pub(super) fn annotations(
    vmi: &VirtualMachineInstance,
) -> Result<impl Iterator<Item = (String, String)>, RenderError> {
    let further: Vec<_> = vmi
        .spec
        .networks
        .iter()
        .filter(|network| !network.is_primary())
        .filter_map(|network| selection(vmi, network))
        .collect();
    let further = match further.as_slice() {
        [] => None,
        further => Some(serde_json::to_string(further).map_err(RenderError::Json)?),
    };
    let primary = vmi.spec.networks.iter().find(|n| n.is_primary());
    let primary = primary.and_then(|network| network.multus.as_ref());
    let primary = primary.map(|multus| multus.network_name.clone());
    let annotations = [(NETWORKS, further), (DEFAULT_NETWORK, primary)];
    Ok(annotations
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?))))
}

fn selection<'a>(vmi: &'a VirtualMachineInstance, network: &'a Network) -> Option<Selection<'a>> {
    let name = network.multus.as_ref()?.network_name.as_str();
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (vmi.metadata.namespace.as_deref(), name),
    };
    let mut interfaces = vmi.spec.domain.devices.interfaces.iter();
    let interface = interfaces.find(|interface| interface.name == network.name);
    Some(Selection {
        name,
        namespace,
        interface: network.pod_interface(),
        mac: interface.and_then(|interface| interface.mac_address.as_deref()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::pod::tests::instance;

    fn asked(interfaces: Value, networks: Value) -> BTreeMap<String, String> {
        let vmi = instance(json!({
            "domain": {"devices": {"interfaces": interfaces}},
            "networks": networks,
        }));
        annotations(&vmi).unwrap().collect()
    }

    #[test]
    fn the_pods_own_network_takes_no_annotation() {
        let asked = asked(
            json!([{"name": "default"}]),
            json!([{"name": "default", "pod": {}}]),
        );
        assert!(asked.is_empty(), "{asked:?}");
    }

    #[test]
    fn further_networks_are_asked_for_by_the_launchers_names() {
        let asked = asked(
            json!([
                {"name": "default"},
                {"name": "blue"},
                {"name": "red", "macAddress": "02:00:00:00:00:01"},
            ]),
            json!([
                {"name": "default", "pod": {}},
                {"name": "blue", "multus": {"networkName": "blue"}},
                {"name": "red", "multus": {"networkName": "other/red"}},
            ]),
        );
        assert_eq!(asked.len(), 1);
        assert_eq!(
            serde_json::from_str::<Value>(&asked[NETWORKS]).unwrap(),
            json!([
                {"name": "blue", "namespace": "default", "interface": "pod16477688c0e"},
                {
                    "name": "red",
                    "namespace": "other",
                    "interface": "podb1f51a511f1",
                    "mac": "02:00:00:00:00:01",
                },
            ])
        );
    }

    #[test]
    fn a_default_network_takes_the_place_of_the_clusters() {
        let asked = asked(
            json!([{"name": "main"}]),
            json!([{"name": "main", "multus": {"networkName": "ns/main", "default": true}}]),
        );
        let expected = BTreeMap::from([(DEFAULT_NETWORK.to_owned(), "ns/main".to_owned())]);
        assert_eq!(asked, expected);
    }
}
