//! A manifest, as a user writes it: read, validated and given its defaults.

#![no_main]

use crds::VirtualMachineInstance;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(manifest) = crds::manifest::parse(text) else {
        return;
    };
    for error in manifest.validate() {
        assert!(
            !error.path.is_empty() && !error.detail.is_empty(),
            "{error:?} helps nobody"
        );
    }
    let mut vmi = manifest.into_vmi();
    let json = serde_json::to_value(&vmi).expect("it can be written");
    let read: VirtualMachineInstance = serde_json::from_value(json).expect("it can be read");
    assert_eq!(read, vmi);

    crds::default(&mut vmi);
    let once = vmi.clone();
    crds::default(&mut vmi);
    assert_eq!(vmi, once, "defaults add nothing to what has its defaults");
});
