//! libvirt's domain XML as Rust types.
//!
//! ```text
//!            guard: depth, namespaces,       serde
//! XML text ──▶ metadata taken out ──────────▶ Domain ──▶ XML text
//!                                                  guard: characters
//! ```
//!
//! Nothing is dropped: an element, attribute or value that the types do not know is an error
//! naming it, so a document that was read can be written again without loss. Types follow
//! libvirt's schema (`domain.rng` of libvirt 9.0) and its page
//! <https://libvirt.org/formatdomain.html>; field names are libvirt's own in Rust's spelling.

mod clock;
mod cpu;
mod devices;
mod domain;
mod error;
mod features;
mod memory;
mod metadata;
mod os;
mod qemu;
mod scan;
mod value;

pub use clock::*;
pub use cpu::*;
pub use devices::*;
pub use domain::*;
pub use error::Error;
pub use features::*;
pub use memory::*;
pub use metadata::Metadata;
pub use os::*;
pub use qemu::*;
pub use value::*;

use quick_xml::se::Serializer;
use serde::Serialize;

impl Domain {
    /// Writes the domain as an XML document, indented by two spaces.
    ///
    /// # Errors
    ///
    /// [`Error::Character`] where a value holds a character that XML 1.0 cannot carry or that
    /// would not be read back as it was, such as a control character.
    pub fn to_xml(&self) -> Result<String, Error> {
        scan::check_characters(&quick_xml::se::to_string_with_root("domain", self)?)?;
        let mut xml = String::new();
        let mut serializer = Serializer::with_root(&mut xml, Some("domain"))?;
        serializer.indent(' ', 2);
        self.serialize(serializer)?;
        if let Some(metadata) = &self.metadata {
            scan::insert_metadata(&mut xml, metadata);
        }
        xml.push('\n');
        Ok(xml)
    }

    /// Reads a domain from an XML document.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where it is not XML, [`Error::Depth`] and [`Error::Namespace`]
    /// where it is not a domain's, [`Error::Unknown`] where it holds what these types do not.
    pub fn from_xml(xml: &str) -> Result<Self, Error> {
        let document = scan::split(xml)?;
        let mut domain: Self = quick_xml::de::from_str(&document.body)?;
        domain.metadata = document.metadata;
        Ok(domain)
    }
}
