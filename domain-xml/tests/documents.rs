//! Documents in, documents out.

#[cfg(test)]
mod common;

use domain_xml::{CpuMode, Device, Domain, DomainType, Hex, Metadata};

const KUBEVIRT: &str = include_str!("fixtures/kubevirt.xml");
const LIVE: &str = include_str!("fixtures/live.xml");

/// A document with `inner` among the devices.
fn with_devices(inner: &str) -> String {
    format!(
        "<domain type='qemu'><name>vm</name><memory>65536</memory><os><type>hvm</type></os>\
         <devices>{inner}</devices></domain>"
    )
}

#[test]
fn what_kubevirt_and_libvirt_write_is_carried_in_full() {
    for (name, document) in [("kubevirt", KUBEVIRT), ("live", LIVE)] {
        common::validate(document);
        let domain = Domain::from_xml(document).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let written = domain.to_xml().unwrap();
        common::validate(&written);
        assert_eq!(Domain::from_xml(&written).unwrap(), domain, "{name}");
        let (before, after) = (words(document), words(&written));
        assert_eq!(before, after, "{name}");
    }
}

/// Names, attributes and text, in an order that does not depend on that of elements.
fn words(xml: &str) -> Vec<String> {
    let mut words: Vec<String> = xml
        .replace('\'', "\"")
        .split(['<', '>', ' ', '\n'])
        .map(|word| word.trim_end_matches('/').to_owned())
        // Written as `<a/>` or `<a></a>`, and declared at the root or below.
        .filter(|word| !word.starts_with('/') && !word.starts_with("xmlns:") && !word.is_empty())
        .collect();
    words.sort();
    words
}

#[test]
fn parts_are_where_they_belong() {
    let domain = Domain::from_xml(KUBEVIRT).unwrap();
    assert_eq!(domain.kind, DomainType::Kvm);
    assert_eq!(domain.id, Some(1));
    let metadata = domain.metadata.unwrap();
    assert!(
        metadata
            .as_str()
            .contains(r#"<kubevirt xmlns="http://kubevirt.io">"#)
    );
    assert_eq!(domain.cpu.unwrap().mode, Some(CpuMode::Custom));
    assert_eq!(domain.qemu_commandline.unwrap().args[0].value, "-fw_cfg");
    let Device::Disk(disk) = &domain.devices.list[0] else {
        panic!("{:?}", domain.devices.list[0]);
    };
    assert_eq!(disk.address.as_ref().unwrap().slot, Some(Hex(0)));
    let below = disk.backing_store.as_ref().unwrap();
    assert_eq!(below.index, Some(3));
    assert_eq!(below.backing_store.as_deref(), Some(&Default::default()));
    let chassis = domain.sysinfo.unwrap().chassis.unwrap();
    assert_eq!(chassis.entries[0].value.as_deref(), Some("a&b"));
}

#[test]
fn what_the_types_do_not_know_is_refused_by_name() {
    for (document, named) in [
        (with_devices("<shmem name='x'/>"), "shmem"),
        (with_devices("<watchdog model='diag288'/>"), "diag288"),
        (
            with_devices("<rng model='virtio'><backend model='builtin'/><x/></rng>"),
            "`x`",
        ),
        (
            with_devices("<memballoon model='none' colour='red'/>"),
            "colour",
        ),
        (
            with_devices("<emulator>/a</emulator><emulator>/b</emulator>"),
            "emulator",
        ),
        (with_devices("<panic model='isa'/>text"), "text"),
        (with_devices("").replace("qemu", "xen"), "xen"),
        (with_devices("").replace("65536", "much"), "much"),
        (
            with_devices("").replace("<devices>", "<launchSecurity type='sev'/><devices>"),
            "launchSecurity",
        ),
        (
            with_devices("").replace("type='qemu'", "type='qemu' a='b'"),
            "`@a`",
        ),
        (with_devices("<qemu:panic/>"), "qemu:panic"),
        (with_devices("<x:panic/>"), "x:panic"),
        (with_devices("<panic x:model='isa'/>"), "x:model"),
        (
            with_devices("").replace("<devices>", "<commandline/><devices>"),
            "commandline",
        ),
        (
            with_devices("").replace("type='qemu'", "type='qemu' xmlns:qemu='urn:other'"),
            "urn:other",
        ),
    ] {
        let error = Domain::from_xml(&document).expect_err(&document);
        let said = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(said.contains(named), "{named}: {said}");
    }
}

#[test]
fn broken_and_hostile_documents_are_errors() {
    let deep = |n: usize| with_devices(&"<backingStore>".repeat(n));
    let whole = with_devices("");
    for document in [
        String::new(),
        "domain".to_owned(),
        "<network/>".to_owned(),
        "<domain/>".to_owned(),
        "<domain".to_owned(),
        "<domain type='qemu'>".to_owned(),
        whole.replace("</domain>", ""),
        whole.replace("</os>", "</so>"),
        format!("{whole}{whole}"),
        format!("{whole}text"),
        format!("text{whole}"),
        format!("&lt;{whole}"),
        format!("<!DOCTYPE domain [<!ENTITY a 'b'>]>{whole}"),
        whole.replace("vm", "&a;"),
        whole.replace("type='qemu'", "type='qemu' type='kvm'"),
        whole.replace("type='qemu'", "type=qemu"),
        whole.replace(
            "<devices>",
            "<metadata/><metadata></metadata><metadata></metadata><devices>",
        ),
        deep(300),
        deep(200_000),
        with_devices("<controller type='pci' index='-1'/>"),
        with_devices("<controller type='pci' index='4294967296'/>"),
    ] {
        assert!(Domain::from_xml(&document).is_err(), "{:.200}", document);
    }
}

#[test]
fn characters_that_would_be_lost_are_refused() {
    let domain = Domain::from_xml(&with_devices("")).unwrap();
    for name in [
        "a\u{1}b",
        "a\u{0}",
        "\u{7f}",
        "a\u{fffe}",
        " a",
        "a\n",
        "\u{a0}a",
    ] {
        let domain = Domain {
            name: name.to_owned(),
            ..domain.clone()
        };
        let error = domain.to_xml().expect_err(name).to_string();
        assert!(error.contains("XML cannot carry"), "{error}");
    }
    for text in ["a<b>&\"'", "a b", "one\ntwo\tthree\r\n4", "näme 名", "]]>"] {
        let domain = Domain {
            description: Some(text.to_owned()),
            ..domain.clone()
        };
        let written = domain.to_xml().unwrap();
        common::validate(&written);
        assert_eq!(Domain::from_xml(&written).unwrap(), domain, "{text:?}");
    }
}

#[test]
fn a_byte_order_mark_stands_in_front_and_changes_nothing() {
    let dense = "<domain type='qemu'><name>名</name><metadata>\u{feff}<a/>\u{feff}</metadata>\
                 <memory>65536</memory><os><type>hvm</type></os><devices/></domain>";
    for document in [KUBEVIRT, dense] {
        let plain = Domain::from_xml(document).unwrap();
        assert!(plain.metadata.is_some());
        let marked = Domain::from_xml(&format!("\u{feff}{document}"));
        assert_eq!(marked.unwrap(), plain);
        Domain::from_xml(&format!("\u{feff}\u{feff}{document}")).expect_err("text before the root");
    }
}

#[test]
fn metadata_is_whole_elements() {
    for xml in [
        "",
        "<a xmlns='urn:a'/>",
        "\n  <a:b xmlns:a='urn:a'>t &amp; u<!-- c --></a:b>\n",
    ] {
        let domain = Domain {
            metadata: Some(Metadata::new(xml).unwrap()),
            ..Domain::from_xml(&with_devices("")).unwrap()
        };
        let written = domain.to_xml().unwrap();
        common::validate(&written);
        assert_eq!(Domain::from_xml(&written).unwrap(), domain, "{written}");
    }
    for xml in [
        "<a>",
        "</metadata>",
        "<a></b>",
        "<!DOCTYPE a>",
        "<a/>\u{1}",
        "<?xml version='1.0'?>",
    ] {
        assert!(Metadata::new(xml).is_err(), "{xml}");
    }
}
