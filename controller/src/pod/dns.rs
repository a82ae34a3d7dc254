//! What the pod is called, and where it asks for names. Its guest is told the same by DHCP.

use crds::{DnsPolicy, VirtualMachineInstance};
use k8s_openapi::api::core::v1::PodSpec;

/// The longest DNS label (RFC 1035, section 2.3.4).
const LABEL_MOST: usize = 63;

/// The pod's host name: the instance's, or what of the instance's name is a DNS label.
pub(super) fn hostname(vmi: &VirtualMachineInstance) -> String {
    if let Some(hostname) = &vmi.spec.hostname {
        return hostname.clone();
    }
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let label = name.split('.').next().unwrap_or(name);
    let label: String = label.chars().take(LABEL_MOST).collect();
    label.trim_end_matches('-').to_owned()
}

/// Sets `hostname`, `subdomain`, `dnsPolicy` and `dnsConfig`.
pub(super) fn name(vmi: &VirtualMachineInstance, pod: &mut PodSpec) {
    pod.hostname = Some(hostname(vmi));
    pod.subdomain = vmi.spec.subdomain.clone();
    pod.dns_config = vmi.spec.dns_config.clone();
    pod.dns_policy = vmi.spec.dns_policy.map(|policy| {
        let policy = match policy {
            DnsPolicy::ClusterFirstWithHostNet => "ClusterFirstWithHostNet",
            DnsPolicy::ClusterFirst => "ClusterFirst",
            DnsPolicy::Default => "Default",
            DnsPolicy::None => "None",
        };
        policy.to_owned()
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::instance;

    #[test]
    fn a_hostname_is_a_dns_label() {
        let long = "a".repeat(62);
        let cases = [
            ("vm", json!({}), "vm"),
            ("vm", json!({"hostname": "guest"}), "guest"),
            ("vm.with.dots", json!({}), "vm"),
            (&format!("{long}bcd"), json!({}), &format!("{long}b")),
            (&format!("{long}-cd"), json!({}), &long),
        ];
        for (name, spec, expected) in cases {
            let mut vmi = instance(spec);
            vmi.metadata.name = Some(name.to_owned());
            assert_eq!(hostname(&vmi), expected);
        }
    }

    #[test]
    fn dns_is_the_instances() {
        let vmi = instance(json!({
            "subdomain": "guests",
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["192.0.2.1"]},
        }));
        let mut pod = PodSpec::default();
        name(&vmi, &mut pod);
        let servers = pod.dns_config.and_then(|dns| dns.nameservers);
        assert_eq!(servers, Some(vec!["192.0.2.1".to_owned()]));
        assert_eq!(pod.dns_policy.as_deref(), Some("None"));
        assert_eq!(pod.subdomain.as_deref(), Some("guests"));

        let mut pod = PodSpec::default();
        name(&instance(json!({})), &mut pod);
        assert_eq!((pod.dns_policy, pod.subdomain), (None, None));
    }
}
