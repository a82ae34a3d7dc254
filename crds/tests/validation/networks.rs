//! Rules about interfaces and networks.

use serde_json::json;

use crate::{check, instance, told};

#[test]
fn interfaces() {
    check(&[
        (
            "domain: {devices: {interfaces: [{name: default}, {name: default}]}}",
            r#"spec.domain.devices.interfaces[1].name: "default" is used already by spec.domain.devices.interfaces[0].name; give each interface a name of its own"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, model: e100}]}}",
            "spec.domain.devices.interfaces[0].model: unknown variant `e100`; write one of `e1000`, `e1000e`, `igb`, `ne2k_pci`, `pcnet`, `rtl8139`, `virtio`",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, macAddress: 02:00:00:00:00}]}}",
            r#"spec.domain.devices.interfaces[0].macAddress: "02:00:00:00:00" is no MAC address; write one such as 02:00:00:12:34:56"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, macAddress: 03:00:00:00:00:01}]}}",
            r#"spec.domain.devices.interfaces[0].macAddress: "03:00:00:00:00:01" is the address of a group; make the second digit even"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, acpiIndex: 16384}]}}",
            "spec.domain.devices.interfaces[0].acpiIndex: 16384 is out of range; use 1 to 16383",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, pciAddress: '0000:81:ff.0'}]}}",
            r#"spec.domain.devices.interfaces[0].pciAddress: "0000:81:ff.0" is no PCI address; write domain:bus:slot.function, such as 0000:00:08.0"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, ports: [{port: 70000}]}]}}",
            "spec.domain.devices.interfaces[0].ports[0].port: 70000 is no port; use 1 to 65535",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, ports: [{port: 1, name: UP}]}]}}",
            r#"spec.domain.devices.interfaces[0].ports[0].name: "UP" is no name of a port; use up to 15 of a-z 0-9 and -, at least one of them a letter"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, dhcpOptions: {ntpServers: ['::1']}}]}}",
            r#"spec.domain.devices.interfaces[0].dhcpOptions.ntpServers[0]: "::1" is no IPv4 address; option 42 holds nothing else"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, dhcpOptions: {privateOptions: [{option: 223, value: a}]}}]}}",
            "spec.domain.devices.interfaces[0].dhcpOptions.privateOptions[0].option: 223 is not for private use; use 224 to 254",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, dhcpOptions: {privateOptions: [{option: 230, value: ''}]}}]}}",
            "spec.domain.devices.interfaces[0].dhcpOptions.privateOptions[0].value: has 0 bytes; an option of DHCP holds 1 to 255",
        ),
    ]);
    assert_eq!(
        told(instance("domain: {devices: {interfaces: [{name: a}]}}")),
        [
            r#"spec.domain.devices.interfaces[0].name: no network is named "a"; add it to networks, or remove the interface"#,
            r#"spec.networks[0].name: no interface is named "default"; add it to domain.devices.interfaces, or remove the network"#,
        ]
    );
}

#[test]
fn bindings() {
    check(&[
        (
            "domain: {devices: {interfaces: [{name: default, bridge: {}, masquerade: {}}]}}",
            "spec.domain.devices.interfaces[0]: has two bindings; leave one of bridge and masquerade",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, sriov: {}}]}}",
            "spec.domain.devices.interfaces[0].sriov: not supported yet; use bridge or masquerade",
        ),
        (
            "{domain: {devices: {interfaces: [{name: a, masquerade: {}}]}}, networks: [{name: a, multus: {networkName: blue}}]}",
            "spec.domain.devices.interfaces[0].masquerade: is for the pod's own network, and this one is another; use bridge: {} instead",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, masquerade: {}, ports: [{port: 80, protocol: tcp}]}]}}",
            "spec.domain.devices.interfaces[0].ports[0].protocol: unknown variant `tcp`; write `TCP` or `UDP`",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, masquerade: {}, ports: [{name: a}]}]}}",
            "spec.domain.devices.interfaces[0].ports[0].port: required; add it",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, masquerade: {}, ports: [{port: 1, name: a}, {port: 2, name: a}]}]}}",
            r#"spec.domain.devices.interfaces[0].ports[1].name: "a" is used already by spec.domain.devices.interfaces[0].ports[0].name; give each port a name of its own"#,
        ),
    ]);
}

#[test]
fn networks() {
    check(&[
        (
            "networks: [{name: default}]",
            "spec.networks[0]: says nothing but its name; add pod: {} or multus",
        ),
        (
            "networks: [{name: default, pod: {}, multus: {networkName: a}}]",
            "spec.networks[0]: is two networks at once; leave one of pod and multus",
        ),
        (
            "networks: [{name: default, multus: {}}]",
            "spec.networks[0].multus.networkName: required; add it",
        ),
        (
            "networks: [{name: default, multus: {networkName: ''}}]",
            r#"spec.networks[0].multus.networkName: "" is no NetworkAttachmentDefinition's name; write name or namespace/name"#,
        ),
        (
            "networks: [{name: default, multus: {networkName: a/b/c}}]",
            r#"spec.networks[0].multus.networkName: "a/b/c" is no NetworkAttachmentDefinition's name; write name or namespace/name"#,
        ),
        (
            "{domain: {devices: {interfaces: [{name: a}, {name: b}]}}, networks: [{name: a, pod: {}}, {name: b, pod: {}}]}",
            "spec.networks[1].pod: the pod's network is used already by spec.networks[0].pod; a pod has one network; remove this one and its interface",
        ),
        (
            "{domain: {devices: {interfaces: [{name: a}, {name: b}]}}, networks: [{name: a, pod: {}}, {name: b, multus: {networkName: blue, default: true}}]}",
            "spec.networks[1].multus.default: the pod's network is used already by spec.networks[0].pod; a pod has one network; remove this one and its interface",
        ),
        (
            "networks: [{name: default, resourceClaim: {}}]",
            "spec.networks[0].resourceClaim: not supported yet; use pod or multus",
        ),
    ]);
}

/// The lines that a network between pod and guest is answered with.
fn told_of(field: &str, cidr: &str) -> Vec<String> {
    told(instance(&format!(
        "{{domain: {{devices: {{interfaces: [{{name: default, masquerade: {{}}}}]}}}}, \
         networks: [{{name: default, pod: {{{field}: '{cidr}'}}}}]}}"
    )))
}

#[test]
fn networks_of_masquerade() {
    let sound = [
        ("vmNetworkCIDR", "10.11.12.0/24"),
        // KubeVirt looks at the network alone as well.
        ("vmNetworkCIDR", "10.11.12.13/30"),
        ("vmNetworkCIDR", "172.16.0.0/12"),
        ("vmIPv6NetworkCIDR", "fd10:0:2::/120"),
        ("vmIPv6NetworkCIDR", "2001:db8::/126"),
    ];
    for (field, cidr) in sound {
        assert_eq!(told_of(field, cidr), [""; 0], "{field} {cidr}");
    }
    const NO_IPV4: &str = "is no IPv4 network; write one such as 10.0.2.0/24";
    const NO_IPV6: &str = "is no IPv6 network; write one such as fd10:0:2::/120";
    const NO_STATIONS: &str = "holds no addresses of stations; write one such as";
    let wrong = [
        ("vmNetworkCIDR", "", NO_IPV4),
        ("vmNetworkCIDR", "10.0.2.0", NO_IPV4),
        ("vmNetworkCIDR", "10.0.2.0/33", NO_IPV4),
        ("vmNetworkCIDR", "fd10:0:2::/120", NO_IPV4),
        (
            "vmNetworkCIDR",
            "10.0.2.0/31",
            "has no room for the pod and the guest; use a prefix of up to 30",
        ),
        ("vmNetworkCIDR", "127.0.0.0/24", NO_STATIONS),
        ("vmNetworkCIDR", "0.0.0.0/0", NO_STATIONS),
        ("vmNetworkCIDR", "169.254.75.0/24", NO_STATIONS),
        ("vmNetworkCIDR", "224.0.0.0/24", NO_STATIONS),
        ("vmIPv6NetworkCIDR", "fd10:0:2::", NO_IPV6),
        ("vmIPv6NetworkCIDR", "10.0.2.0/24", NO_IPV6),
        (
            "vmIPv6NetworkCIDR",
            "fd10::/127",
            "has no room for the pod and the guest; use a prefix of up to 126",
        ),
        ("vmIPv6NetworkCIDR", "fe80::/64", NO_STATIONS),
        ("vmIPv6NetworkCIDR", "ff02::/64", NO_STATIONS),
        ("vmIPv6NetworkCIDR", "::ffff:10.0.2.0/120", NO_STATIONS),
    ];
    for (field, cidr, detail) in wrong {
        let told = told_of(field, cidr);
        assert_eq!(told.len(), 1, "{field} {cidr}: {told:?}");
        let begin = format!("spec.networks[0].pod.{field}: {cidr:?} {detail}");
        assert!(told[0].starts_with(&begin), "{told:?}");
    }
    check(&[(
        "networks: [{name: default, pod: {vmNetworkCIDR: 10.0.3.0/24}}]",
        "spec.networks[0].pod.vmNetworkCIDR: is for masquerade, and with bridge the guest has the pod's address; remove it, or bind the interface by masquerade: {}",
    )]);
}

#[test]
fn anti_spoofing_is_enabled_or_disabled() {
    let mut value = instance("{}");
    for state in ["enabled", "disabled"] {
        value["metadata"]["annotations"] = json!({crds::ANTI_SPOOFING: state});
        assert_eq!(told(value.clone()), [""; 0], "{state}");
    }
    value["metadata"]["annotations"] = json!({crds::ANTI_SPOOFING: "false"});
    assert_eq!(
        told(value.clone()),
        [
            r#"metadata.annotations["network.ferrovirt.io/anti-spoofing"]: "false" is no state; write enabled or disabled"#
        ]
    );
    let machine = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "vm", "annotations": {crds::ANTI_SPOOFING: "on"}},
        "spec": {
            "runStrategy": "Always",
            "template": {"metadata": value["metadata"], "spec": value["spec"]},
        },
    });
    assert_eq!(
        told(machine),
        [
            r#"metadata.annotations["network.ferrovirt.io/anti-spoofing"]: "on" is no state; write enabled or disabled"#,
            r#"spec.template.metadata.annotations["network.ferrovirt.io/anti-spoofing"]: "false" is no state; write enabled or disabled"#,
        ]
    );
}
