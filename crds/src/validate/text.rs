//! Rules about strings.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;

use serde_json::Value;

use crate::field::Field;
use crate::{FieldError, VirtualMachineInstanceSpec};

/// What cloud-init reads and what the guest's agent runs may hold any character; neither ever
/// becomes XML or a command line of ours.
const FREE_TEXT: [&str; 3] = ["command", "networkData", "userData"];

/// No string holds a control character: strings become XML, command lines and file names.
pub(super) fn check(spec: &VirtualMachineInstanceSpec, at: &Field, errors: &mut Vec<FieldError>) {
    // What was read from JSON can be written to it.
    if let Ok(value) = serde_json::to_value(spec) {
        walk(&value, at, errors);
    }
}

fn walk(value: &Value, at: &Field, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if key.chars().any(char::is_control) {
                    errors.push(at.error(format!(
                        "the key {key:?} holds a control character; remove it"
                    )));
                } else if !FREE_TEXT.contains(&key.as_str()) {
                    walk(value, &at.at(key), errors);
                }
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(value, &at.index(index), errors);
            }
        }
        Value::String(text) if text.chars().any(char::is_control) => {
            errors.push(at.error(format!("{text:?} holds a control character; remove it")));
        }
        _ => {}
    }
}

/// A DNS label (RFC 1123, section 2.1).
pub(super) fn is_dns_label(name: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 63
        && name.bytes().all(|c| alphanumeric(c) || c == b'-')
        && name.bytes().next().is_some_and(alphanumeric)
        && name.bytes().next_back().is_some_and(alphanumeric)
}

/// DNS labels with dots between them, as Kubernetes names objects.
pub(super) fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// `name` must be a DNS label.
pub(super) fn dns_label(name: &str, at: &Field, errors: &mut Vec<FieldError>) {
    if !is_dns_label(name) {
        errors.push(at.error(format!(
            "{name:?} is no DNS label; use up to 63 of a-z 0-9 and -, beginning and ending with \
             a letter or digit"
        )));
    }
}

/// `name` must be one that Kubernetes gives an object of this kind.
pub(super) fn object_name(kind: &str, name: &str, at: &Field, errors: &mut Vec<FieldError>) {
    if !is_dns_subdomain(name) {
        errors.push(at.error(format!(
            "{name:?} is no {kind}'s name; write the name of one in the same namespace"
        )));
    }
}

/// The label of a disk of files: what fits ISO 9660's 32 bytes and is a name everywhere.
pub(super) fn volume_label(label: &str, at: &Field, errors: &mut Vec<FieldError>) {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"_.-".contains(&c);
    if !(1..=32).contains(&label.len()) || !label.bytes().all(allowed) {
        errors.push(at.error(format!(
            "{label:?} is no volume label; use 1 to 32 of A-Z a-z 0-9 _ . -"
        )));
    }
}

/// A serial number goes into SMBIOS and onto QEMU's command line.
pub(super) fn serial(serial: &str, at: &Field, errors: &mut Vec<FieldError>) {
    const MOST: usize = 256;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"_.+-".contains(&c);
    if serial.len() > MOST {
        errors.push(at.error(format!("has {} characters; use up to {MOST}", serial.len())));
    } else if serial.is_empty() || !serial.bytes().all(allowed) {
        errors.push(at.error(format!(
            "{serial:?} is no serial number; use A-Z a-z 0-9 _ . + -"
        )));
    }
}

/// `path` must be absolute, and must not leave where it starts.
pub(super) fn absolute_path(path: &str, at: &Field, errors: &mut Vec<FieldError>) {
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        errors.push(at.error(format!(
            "{path:?} is not an absolute path without \"..\"; begin it with /"
        )));
    }
}

/// An image's name is one word.
pub(super) fn image(image: &str, at: &Field, errors: &mut Vec<FieldError>) {
    if image.is_empty() || image.contains(char::is_whitespace) {
        errors.push(at.error(format!(
            "{image:?} is no image name; write one such as registry/name:tag"
        )));
    }
}

/// A PCI address as libvirt writes it: domain:bus:slot.function.
pub(super) fn pci_address(address: &str, at: &Field, errors: &mut Vec<FieldError>) {
    let shape = b"hhhh:hh:sh.f";
    let matches = address.len() == shape.len()
        && address.bytes().zip(shape).all(|(c, shape)| match shape {
            b'h' => c.is_ascii_hexdigit(),
            b's' => matches!(c, b'0' | b'1'),
            b'f' => matches!(c, b'0'..=b'7'),
            literal => c == *literal,
        });
    if !matches {
        errors.push(at.error(format!(
            "{address:?} is no PCI address; write domain:bus:slot.function, such as 0000:00:08.0"
        )));
    }
}

/// Finds values that are used twice among fields that must differ.
pub(super) struct Unique<T> {
    seen: HashMap<T, Field>,
    remedy: &'static str,
}

impl<T: Eq + Hash + Display> Unique<T> {
    /// `remedy` tells what to do about the second.
    pub(super) fn new(remedy: &'static str) -> Self {
        Self {
            seen: HashMap::new(),
            remedy,
        }
    }

    /// The field at `at` is `value`.
    pub(super) fn add(&mut self, value: T, at: Field, errors: &mut Vec<FieldError>) {
        match self.seen.get(&value) {
            Some(first) => errors.push(at.error(format!(
                "{value} is used already by {first}; {}",
                self.remedy
            ))),
            None => {
                self.seen.insert(value, at);
            }
        }
    }
}
