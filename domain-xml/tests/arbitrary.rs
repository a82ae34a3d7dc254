//! Any domain that libvirt's schema allows comes back as it was written.

#[cfg(test)]
mod common;
#[cfg(test)]
mod strategies;

use domain_xml::Domain;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_written_domain_reads_back_as_itself(domain in strategies::domain()) {
        let written = domain.to_xml().unwrap();
        prop_assert_eq!(Domain::from_xml(&written).unwrap(), domain, "{}", written);
    }

    #[test]
    fn reading_never_panics(document in "[<>/='\"& a-z:!\\[\\]?\\-]{0,60}", cut in 0_usize..9000) {
        let _ = Domain::from_xml(&document);
        let whole = include_str!("fixtures/kubevirt.xml");
        let cut = cut.min(whole.len());
        let _ = Domain::from_xml(&whole[..cut]);
        let _ = Domain::from_xml(&format!("{}{document}{}", &whole[..cut], &whole[cut..]));
    }
}

proptest! {
    // Each case runs xmllint.
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_written_domain_is_valid(domain in strategies::domain()) {
        common::validate(&domain.to_xml().unwrap());
    }
}
