//! What serde cannot see in an XML document: its shape, namespaces and verbatim parts.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use crate::{Error, Metadata};

/// libxml2's own limit; serde recurses on nesting, and the stack is finite.
const MAX_DEPTH: usize = 256;

/// What may stand in front of a document (XML 1.0, section 4.3.3) and is no part of it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The attribute that declares the prefix `qemu:`.
const QEMU_DECLARATION: &str = "xmlns:qemu";
/// The only namespace that it may stand for.
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// Elements of `<domain>` that belong to the namespace.
const QEMU_ROOTS: [&str; 2] = ["commandline", "override"];

/// A domain document, its verbatim part taken out.
pub(crate) struct Document {
    /// What serde reads.
    pub(crate) body: String,
    /// The content of `<metadata>`.
    pub(crate) metadata: Option<Metadata>,
}

/// Checks a document's shape, takes `<metadata>` out and the declaration of `qemu:` off the
/// root, since the types declare it where they use it.
pub(crate) fn split(xml: &str) -> Result<Document, Error> {
    let mut walk = Walk::new(xml);
    let mut body = String::with_capacity(xml.len());
    // Up to where `xml` is in `body` or dropped on purpose.
    let mut done = 0;
    let mut metadata = None;
    // Where `<metadata>` and its content start, while inside.
    let mut inside: Option<(usize, usize)> = None;
    // Whether the child of the root that was last seen is of the namespace of `qemu:`.
    let mut qemu = false;
    let mut has_root = false;
    while let Some(Node { depth, span, event }) = walk.next()? {
        match event {
            Event::Start(tag) | Event::Empty(tag) if depth == 0 => {
                if has_root || tag.name().0 != "domain" {
                    return Err(Error::Root);
                }
                has_root = true;
                let end = if xml[..span.end].ends_with("/>") {
                    "/>"
                } else {
                    ">"
                };
                body.push_str(&format!("<{}{end}", &*without_qemu(&tag)?));
                done = span.end;
            }
            Event::Text(text) if depth == 0 && text.trim_ascii().is_empty() => {}
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) if depth == 0 => {
                return Err(Error::Root);
            }
            Event::Start(tag) if depth == 1 && tag.name().0 == "metadata" => {
                inside = Some((span.start, span.end));
            }
            // As good as none: libvirt drops it.
            Event::Empty(tag) if depth == 1 && tag.name().0 == "metadata" => {
                body.push_str(&xml[done..span.start]);
                done = span.end;
            }
            Event::End(_) if depth == 1 => {
                if let Some((element, content)) = inside.take() {
                    if metadata.is_some() {
                        return Err(Error::Metadata);
                    }
                    metadata = Some(Metadata::new(&xml[content..span.start])?);
                    body.push_str(&xml[done..element]);
                    done = span.end;
                }
            }
            Event::Start(tag) | Event::Empty(tag) if inside.is_none() => {
                if depth == 1 {
                    qemu = QEMU_ROOTS.contains(&tag.local_name().into_inner());
                }
                check_prefixes(&tag, qemu)?;
            }
            _ => {}
        }
    }
    if !has_root {
        return Err(Error::Root);
    }
    body.push_str(&xml[done..]);
    Ok(Document { body, metadata })
}

/// Checks that `xml` is a sequence of whole elements.
pub(crate) fn check_fragment(xml: &str) -> Result<(), Error> {
    if let Some(at) = xml.find(is_forbidden) {
        return Err(character_after(xml, at));
    }
    let mut walk = Walk::new(xml);
    while let Some(node) = walk.next()? {
        if let (0, Event::Decl(_) | Event::PI(_)) = (node.depth, node.event) {
            return Err(Error::Doctype);
        }
    }
    Ok(())
}

/// Puts `metadata` first in a document that [`quick_xml::se`] wrote.
pub(crate) fn insert_metadata(xml: &mut String, metadata: &Metadata) {
    // The serializer escapes `>` in values, so the first one ends the root's tag.
    if let Some(end) = xml.find('>') {
        let element = format!("\n  <metadata>{}</metadata>", metadata.as_str());
        xml.insert_str(end + 1, &element);
    }
}

/// Refuses values that would not be read back as they are: control characters, which the
/// serializer writes raw and XML forbids, and blanks at the edges of text, which readers trim.
///
/// `xml` is written without indentation, so that every blank beside a tag is a value's.
pub(crate) fn check_characters(xml: &str) -> Result<(), Error> {
    let mut previous = (0, '>');
    for (at, character) in xml.char_indices() {
        if is_forbidden(character) || (previous.1 == '>' && character.is_whitespace()) {
            return Err(character_after(xml, at));
        }
        if character == '<' && previous.1.is_whitespace() {
            return Err(character_after(xml, previous.0));
        }
        previous = (at, character);
    }
    Ok(())
}

/// Not a `Char` of XML 1.0 (section 2.2), or a control character that it discourages.
fn is_forbidden(character: char) -> bool {
    (character.is_control() && !matches!(character, '\n' | '\r' | '\t'))
        || matches!(character, '\u{fffe}' | '\u{ffff}')
}

/// The error about the character of `xml` at the byte `at`.
fn character_after(xml: &str, at: usize) -> Error {
    let (before, rest) = xml.split_at(at);
    let start = before.char_indices().rev().nth(39).map_or(0, |(i, _)| i);
    Error::Character {
        character: rest.chars().next().unwrap_or_default(),
        context: before[start..].to_owned(),
    }
}

/// The tag without the declaration of `qemu:`.
fn without_qemu<'a>(tag: &BytesStart<'a>) -> Result<BytesStart<'a>, Error> {
    let mut bare = tag.to_owned();
    bare.clear_attributes();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|e| malformed(0, e.into()))?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|e| malformed(0, e))?;
        match attribute.key.0 {
            QEMU_DECLARATION if value == QEMU_NAMESPACE => {}
            QEMU_DECLARATION => return Err(Error::Namespace(value.into_owned())),
            key => bare.push_attribute((key, &*value)),
        }
    }
    Ok(bare)
}

/// Checks that an element has the prefix `qemu:` if it belongs below one that has, and no other:
/// serde's view of names drops prefixes.
fn check_prefixes(tag: &BytesStart<'_>, qemu: bool) -> Result<(), Error> {
    let name = tag.name();
    if name.prefix().map(|prefix| prefix.into_inner()) != qemu.then_some("qemu") {
        return Err(Error::Namespace(name.0.to_owned()));
    }
    for attribute in tag.attributes().filter_map(Result::ok) {
        let key = attribute.key;
        if key.prefix().is_some() && !(qemu && key.0 == QEMU_DECLARATION) {
            return Err(Error::Namespace(format!("{} {}", name.0, key.0)));
        }
    }
    Ok(())
}

/// An event, where it stands and how many elements enclose it.
struct Node<'a> {
    depth: usize,
    span: Range<usize>,
    event: Event<'a>,
}

/// The events of a document, with bounded depth and no DOCTYPE.
struct Walk<'a> {
    reader: Reader<&'a [u8]>,
    /// The length of a byte order mark in front, which the reader drops and does not count.
    dropped: u64,
    depth: usize,
}

impl<'a> Walk<'a> {
    fn new(xml: &'a str) -> Self {
        Self {
            reader: Reader::from_str(xml),
            dropped: if xml.starts_with(BYTE_ORDER_MARK) {
                BYTE_ORDER_MARK.len_utf8() as u64
            } else {
                0
            },
            depth: 0,
        }
    }

    /// The next event; `None` at the end.
    fn next(&mut self) -> Result<Option<Node<'a>>, Error> {
        let start = self.position();
        let event = self
            .reader
            .read_event()
            .map_err(|e| malformed(self.dropped + self.reader.error_position(), e))?;
        let depth = match &event {
            Event::Start(_) => {
                self.depth += 1;
                self.depth - 1
            }
            Event::End(_) => {
                self.depth -= 1;
                self.depth
            }
            Event::DocType(_) => return Err(Error::Doctype),
            Event::Eof if self.depth == 0 => return Ok(None),
            Event::Eof => return Err(Error::Unclosed),
            _ => self.depth,
        };
        if depth >= MAX_DEPTH {
            return Err(Error::Depth(MAX_DEPTH));
        }
        let span = start..self.position();
        Ok(Some(Node { depth, span, event }))
    }

    fn position(&self) -> usize {
        // A document in memory is no longer than a usize counts.
        (self.dropped + self.reader.buffer_position()) as usize
    }
}

fn malformed(offset: u64, source: quick_xml::Error) -> Error {
    Error::Malformed { offset, source }
}
