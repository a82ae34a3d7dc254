//! `<metadata>`: XML of applications, carried verbatim.

use crate::{Error, scan};

/// The content of `<metadata>` (formatdomain.html, "General metadata").
///
/// libvirt asks that each application uses one element there, in a namespace of its own.
/// The text is kept as it is, since serde's view of XML knows no namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata(String);

impl Metadata {
    /// Takes the elements between `<metadata>` and `</metadata>`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] and [`Error::Depth`] where they cannot stand there.
    pub fn new(xml: &str) -> Result<Self, Error> {
        scan::check_fragment(xml)?;
        Ok(Self(xml.to_owned()))
    }

    /// The elements as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
