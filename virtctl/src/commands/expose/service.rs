//! The Service of a machine: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Wanted;
use crate::target::Name;

/// Every launcher's pod has it (KubeVirt's `VirtualMachineNameLabel`).
const NAME_LABEL: &str = "vm.kubevirt.io/name";

/// A label of instances that goes with the node, and not with the machine.
const NODE_LABEL: &str = "kubevirt.io/nodeName";

/// The Service `wanted` for the machine `name`, whose pods have its `labels`. A machine with no
/// label of its own is selected by its name.
pub(super) fn make(wanted: &Wanted, name: &Name, mut labels: BTreeMap<String, String>) -> Service {
    labels.remove(NODE_LABEL);
    if labels.is_empty() {
        labels.insert(NAME_LABEL.to_owned(), name.name.clone());
    }
    let target = wanted.target_port.as_ref().map(|port| match port.parse() {
        Ok(number) => IntOrString::Int(number),
        Err(_) => IntOrString::String(port.clone()),
    });
    let port = ServicePort {
        name: wanted.port_name.clone(),
        node_port: wanted.node_port.map(i32::from),
        port: wanted.port.into(),
        protocol: Some(wanted.protocol.word()),
        target_port: target,
        ..ServicePort::default()
    };
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    Service {
        metadata: ObjectMeta {
            name: Some(wanted.name.clone()),
            namespace: Some(name.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: wanted.cluster_ip.clone(),
            external_ips: some(wanted.external_ip.iter().map(ToString::to_string).collect()),
            ip_families: some(
                wanted
                    .ip_family
                    .iter()
                    .map(|family| family.word())
                    .collect(),
            ),
            ip_family_policy: wanted.ip_family_policy.map(|policy| policy.word()),
            load_balancer_ip: wanted.load_balancer_ip.map(|ip| ip.to_string()),
            ports: Some(vec![port]),
            selector: Some(labels),
            session_affinity: wanted.session_affinity.map(|affinity| affinity.word()),
            type_: Some(wanted.reach.word()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::target::Kind;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        wanted: Wanted,
    }

    fn made(flags: &str, labels: &[(&str, &str)]) -> Value {
        let line = format!("expose --name web {flags}");
        let Line { wanted } = Line::parse_from(line.split_whitespace());
        let name = Name {
            kind: Kind::Vm,
            namespace: "ns".to_owned(),
            name: "demo".to_owned(),
        };
        let labels = labels
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        let service = make(&wanted, &name, labels.collect());
        serde_json::to_value(service).unwrap()
    }

    #[test]
    fn the_machines_labels_select_it() {
        for (labels, selector) in [
            (
                &[("app", "demo"), (NODE_LABEL, "n1")][..],
                json!({"app": "demo"}),
            ),
            (&[(NODE_LABEL, "n1")], json!({NAME_LABEL: "demo"})),
            (&[], json!({NAME_LABEL: "demo"})),
        ] {
            assert_eq!(made("--port 80", labels)["spec"]["selector"], selector);
        }
    }

    #[test]
    fn flags_become_fields() {
        let plain = json!({
            "ports": [{"port": 22, "protocol": "TCP"}],
            "selector": {"a": "b"},
            "type": "ClusterIP",
        });
        assert_eq!(made("--port 22", &[("a", "b")])["spec"], plain);
        let flags = "--port 80 --target-port http --port-name web --node-port 30080 --protocol udp \
                     --type nodeport --cluster-ip None --external-ip 192.0.2.1 \
                     --load-balancer-ip 192.0.2.2 --ip-family ipv6,ipv4 \
                     --ip-family-policy requiredualstack --session-affinity clientip";
        let full = json!({
            "clusterIP": "None",
            "externalIPs": ["192.0.2.1"],
            "ipFamilies": ["IPv6", "IPv4"],
            "ipFamilyPolicy": "RequireDualStack",
            "loadBalancerIP": "192.0.2.2",
            "ports": [{
                "name": "web", "nodePort": 30080, "port": 80, "protocol": "UDP",
                "targetPort": "http",
            }],
            "selector": {"a": "b"},
            "sessionAffinity": "ClientIP",
            "type": "NodePort",
        });
        assert_eq!(made(flags, &[("a", "b")])["spec"], full);
        let number = made("--port 80 --target-port 8080", &[]);
        assert_eq!(number["spec"]["ports"][0]["targetPort"], json!(8080));
    }
}
