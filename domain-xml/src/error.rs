//! Why a document could not be read or written.

use quick_xml::{DeError, SeError};

/// Why a domain could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not well-formed XML.
    #[error("the domain XML is not well-formed at byte {offset}")]
    Malformed {
        /// Where reading stopped.
        offset: u64,
        /// What the parser says.
        source: quick_xml::Error,
    },
    /// The text ends inside an element.
    #[error("the domain XML ends before its last element is closed")]
    Unclosed,
    /// A document type or processing instruction, which no domain needs.
    #[error("the domain XML has a DOCTYPE or a processing instruction; remove it")]
    Doctype,
    /// There is no `<domain>` element, or something beside it.
    #[error("the domain XML has no single <domain> element as its root")]
    Root,
    /// Elements are nested deeper than libxml2 reads.
    #[error("the domain XML nests elements deeper than {0}; libvirt refuses it too")]
    Depth(usize),
    /// An element or attribute belongs to a namespace that these types do not carry.
    #[error("the domain XML has {0:?}, which is not of a supported namespace; remove it")]
    Namespace(String),
    /// `<metadata>` stands twice.
    #[error("the domain XML has <metadata> twice; libvirt reads only one")]
    Metadata,
    /// An element, attribute or value is not among these types; the source names it.
    #[error("the domain XML has a part that is not supported")]
    Unknown(#[from] DeError),
    /// A value holds a character that XML cannot carry there.
    #[error("{context:?} is followed by {character:?}, which XML cannot carry there; remove it")]
    Character {
        /// The character.
        character: char,
        /// The document before it.
        context: String,
    },
    /// The domain could not be serialized.
    #[error("the domain cannot be written as XML")]
    Write(#[from] SeError),
}
