//! Interfaces and the devices that are neither disks nor interfaces.

use super::*;

/// A machine with one interface of these fields, bound to the pod's network.
fn with_interface(fields: &str) -> VirtualMachineInstance {
    instance(&format!(
        "domain: {{memory: {{guest: 64Mi}}, cpu: {{cores: 4}}, devices: {{
           networkInterfaceMultiqueue: true, interfaces: [{{name: default, {fields}}}]}}}},
         networks: [{{name: default, pod: {{}}}}]"
    ))
}

#[test]
fn interfaces() {
    let cases: &[(&str, &[&str])] = &[
        (
            "",
            &[
                r#"<interface type="ethernet"><target dev="tap0" managed="no"/>"#,
                r#"<model type="virtio-non-transitional"/><driver queues="4"/>"#,
                r#"<mtu size="1480"/><rom enabled="no"/><alias name="ua-default"/></interface>"#,
            ],
        ),
        (
            "macAddress: 02:00:00:12:34:56",
            &[r#"<mac address="02:00:00:12:34:56"/>"#],
        ),
        ("model: e1000", &[r#"<model type="e1000"/>"#, "!queues"]),
        ("model: e1000e", &[r#"<model type="e1000e"/>"#]),
        ("model: igb", &[r#"<model type="igb"/>"#]),
        ("model: ne2k_pci", &[r#"<model type="ne2k_pci"/>"#]),
        ("model: pcnet", &[r#"<model type="pcnet"/>"#]),
        ("model: rtl8139", &[r#"<model type="rtl8139"/>"#]),
        (
            "bootOrder: 1",
            &[r#"<boot order="1"/>"#, "!<rom", "!<boot dev"],
        ),
        ("acpiIndex: 7", &[r#"<acpi index="7"/>"#]),
        (
            "pciAddress: '0000:00:0a.1'",
            &[r#"<address type="pci" domain="0x0000" bus="0x00" slot="0x0a" function="0x1"/>"#],
        ),
    ];
    for (fields, parts) in cases {
        let vmi = with_interface(fields);
        expect(&vmi, &host(&vmi), parts);
    }
}

#[test]
fn each_interface_ends_in_its_own_tap() {
    let vmi = instance(
        "domain: {memory: {guest: 64Mi}, cpu: {cores: 2}, devices: {
           networkInterfaceMultiqueue: true, interfaces: [
             {name: blue, bootOrder: 2},
             {name: default, masquerade: {}, model: e1000, bootOrder: 1},
             {name: red, macAddress: 02:00:00:00:00:0a}]}},
         networks: [{name: default, pod: {}}, {name: red, multus: {networkName: red}},
           {name: blue, multus: {networkName: space/blue}}]",
    );
    let mut host = host(&vmi);
    for attachment in crate::network::attachments(&vmi, crate::network::PRIMARY) {
        let bound = host.interfaces.get_mut(&attachment.interface.name);
        bound.expect("each interface is bound").tap = attachment.tap;
    }
    expect(
        &vmi,
        &host,
        &[
            r#"<interface type="ethernet"><target dev="tap16477688c0e" managed="no"/><model type="virtio-non-transitional"/><driver queues="2"/><mtu size="1480"/><boot order="2"/><alias name="ua-blue"/></interface><interface"#,
            r#"<target dev="tap0" managed="no"/><model type="e1000"/><mtu size="1480"/><boot order="1"/><alias name="ua-default"/></interface><interface"#,
            r#"<mac address="02:00:00:00:00:0a"/><target dev="tapb1f51a511f1" managed="no"/>"#,
            r#"<driver queues="2"/><mtu size="1480"/><rom enabled="no"/><alias name="ua-red"/></interface>"#,
        ],
    );
}

#[test]
fn the_bound_mac_is_the_guests() {
    let vmi = with_interface("macAddress: 02-00-00-12-34-56");
    let mut host = host(&vmi);
    let bound = |mac: Option<&str>, mtu| BoundInterface {
        tap: "tap9".to_owned(),
        mac: mac.map(str::to_owned),
        mtu,
    };
    host.interfaces = [("default".to_owned(), bound(Some("0a:58:0a:f4:00:05"), None))].into();
    let parts = [
        r#"<mac address="0a:58:0a:f4:00:05"/><target dev="tap9""#,
        "!<mtu",
    ];
    expect(&vmi, &host, &parts);
    host.interfaces = [("default".to_owned(), bound(None, None))].into();
    expect(&vmi, &host, &[r#"<mac address="02:00:00:12:34:56"/>"#]);
    host.interfaces.clear();
    assert_eq!(
        refused(&vmi, &host),
        "spec.domain.devices.interfaces[0].name: the interface \"default\" is not bound to a \
         network; add it to spec.networks"
    );
}

#[test]
fn one_cpu_needs_one_queue() {
    let mut vmi = with_interface("");
    vmi.spec.domain.cpu = None;
    expect(&vmi, &host(&vmi), &["!queues"]);
}

#[test]
fn addresses_that_are_none() {
    for address in [
        "",
        "0000:00:0a",
        "0000:00:20.0",
        "0000:00:0a.8",
        "0:0:0:0.0",
        "zz:00:0a.0",
    ] {
        let mut vmi = with_interface("");
        vmi.spec.domain.devices.interfaces[0].pci_address = Some(address.to_owned());
        let said = refused(&vmi, &host(&vmi));
        let expected = format!(
            "spec.domain.devices.interfaces[0].pciAddress: {address:?} is no PCI address; write"
        );
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[test]
fn the_rest() {
    let cases: &[(&str, &[&str])] = &[
        (
            "",
            &[
                r#"<controller type="virtio-serial" index="0" model="virtio-non-transitional"/>"#,
                concat!(
                    r#"<serial type="unix"><source mode="bind" path="/run/vm/serial0.sock"/>"#,
                    r#"<log file="/run/vm/serial0.log" append="on"/>"#,
                    r#"<target type="isa-serial" port="0"><model name="isa-serial"/></target>"#,
                    "</serial>"
                ),
                concat!(
                    r#"<channel type="unix"><source mode="bind" path="/run/vm/agent.sock"/>"#,
                    r#"<target type="virtio" name="org.qemu.guest_agent.0"/></channel>"#
                ),
                concat!(
                    r#"<graphics type="vnc"><listen type="socket" socket="/run/vm/vnc.sock"/>"#,
                    "</graphics>"
                ),
                r#"<video><model type="vga" vram="16384" heads="1"/></video>"#,
                concat!(
                    r#"<memballoon model="virtio-non-transitional" freePageReporting="on">"#,
                    r#"<stats period="10"/></memballoon>"#
                ),
                "!<rng",
                "!<watchdog",
                "!<input",
            ],
        ),
        (
            "autoattachSerialConsole: false, autoattachGraphicsDevice: false,
             autoattachMemBalloon: false",
            &[
                "!<serial",
                "!<graphics",
                "!<video",
                r#"<memballoon model="none"/>"#,
            ],
        ),
        ("logSerialConsole: false", &["!<log", "<serial"]),
        (
            "rng: {}",
            &[concat!(
                r#"<rng model="virtio-non-transitional"><backend model="random">"#,
                "/dev/urandom</backend></rng>"
            )],
        ),
        (
            "watchdog: {name: dog, i6300esb: {}}",
            &[r#"<watchdog model="i6300esb" action="reset"><alias name="ua-dog"/></watchdog>"#],
        ),
        (
            "watchdog: {name: d, i6300esb: {action: poweroff}}",
            &[r#"action="poweroff""#],
        ),
        (
            "watchdog: {name: d, i6300esb: {action: shutdown}}",
            &[r#"action="shutdown""#],
        ),
        (
            "autoattachInputDevice: true",
            &[
                r#"<input type="tablet" bus="usb"><alias name="ua-default-0"/></input>"#,
                r#"<controller type="usb" index="0" model="qemu-xhci"/>"#,
            ],
        ),
        (
            "autoattachInputDevice: true, inputs: [{name: k, type: keyboard, bus: virtio},
              {name: 'a b', type: tablet}]",
            &[
                r#"<input type="keyboard" bus="virtio" model="virtio">"#,
                r#"<input type="tablet" bus="usb"/>"#,
                "!default-0",
            ],
        ),
        (
            "video: {type: virtio}",
            &[r#"<model type="virtio" heads="1"/>"#],
        ),
        (
            "video: {type: cirrus}",
            &[r#"<model type="cirrus" vram="16384" heads="1"/>"#],
        ),
        (
            "video: {type: bochs}",
            &[r#"<model type="bochs" vram="16384" heads="1"/>"#],
        ),
        (
            "video: {type: ramfb}",
            &[r#"<model type="ramfb" heads="1"/>"#],
        ),
    ];
    for (fields, parts) in cases {
        let vmi = with_devices(fields);
        expect(&vmi, &host(&vmi), parts);
    }
}

#[test]
fn a_name_that_is_used_twice_is_the_first_devices_alias() {
    let vmi = instance(
        "domain: {memory: {guest: 64Mi}, devices: {disks: [{name: default}],
           interfaces: [{name: default}], watchdog: {name: default, i6300esb: {}}}},
         networks: [{name: default, pod: {}}],
         volumes: [{name: default, emptyDisk: {capacity: 1Mi}}]",
    );
    let xml = xml(&vmi, &host(&vmi));
    assert_eq!(xml.matches("ua-default").count(), 1, "{xml}");
    assert!(
        flat(&xml).contains(r#"<alias name="ua-default"/></disk>"#),
        "{xml}"
    );
}

#[test]
fn domains_are_named_as_kubevirt_names_them() {
    let mut vmi = with_devices("");
    assert_eq!(domain_name(&vmi), "default_vm");
    vmi.metadata.namespace = Some("a".to_owned());
    assert_eq!(domain_name(&vmi), "a_vm");
}
