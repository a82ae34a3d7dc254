//! Domain XML, as libvirt might hand it back: what is read can be written, and is then the same.

#![no_main]

use domain_xml::Domain;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|xml: &str| {
    let Ok(domain) = Domain::from_xml(xml) else {
        return;
    };
    let written = domain.to_xml().expect("what was read can be written");
    assert_eq!(
        Domain::from_xml(&written).expect("what was written can be read"),
        domain
    );
});
