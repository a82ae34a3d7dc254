//! libvirt's own validator.

use std::io::Write;
use std::process::Command;

/// Fails where libvirt's schema refuses `xml`.
///
/// The tool is no option: without it nothing here says anything about libvirt.
pub(crate) fn validate(xml: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(xml.as_bytes()).unwrap();
    let output = Command::new("virt-xml-validate")
        .arg(file.path())
        .arg("domain")
        .output()
        .expect("virt-xml-validate (Debian: libvirt-clients and libxml2-utils) must be installed");
    assert!(
        output.status.success(),
        "{}\n{xml}",
        String::from_utf8_lossy(&output.stderr)
    );
}
