//! Domain XML, as libvirt might hand it back: what is read can be written, and is then the same. But
//! the reader takes characters that XML does not have, where the writer refuses them.

#![no_main]

use domain_xml::{Domain, Error};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|xml: &str| {
    let Ok(domain) = Domain::from_xml(xml) else {
        return;
    };
    let written = match domain.to_xml() {
        Err(Error::Character { .. }) => return,
        other => other.expect("what was read can be written"),
    };
    let again = Domain::from_xml(&written).expect("what was written can be read");
    assert_eq!(again, domain);
});
