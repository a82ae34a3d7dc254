//! Domain names as they travel in DHCP options.

/// Why a name cannot be sent to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("it has an empty label")]
    EmptyLabel,
    #[error("a label is longer than 63 bytes")]
    LongLabel,
    #[error("it is longer than 253 bytes")]
    Long,
    #[error("only letters, digits, - and _ may stand between the dots")]
    Character,
}

/// Checks a name against RFC 1035 section 2.3.4, with the underscores that service names have.
pub(crate) fn check(name: &str) -> Result<(), NameError> {
    if name.len() > 253 {
        return Err(NameError::Long);
    }
    for label in name.split('.') {
        match label.len() {
            0 => return Err(NameError::EmptyLabel),
            1..=63 => {}
            _ => return Err(NameError::LongLabel),
        }
        if !label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(NameError::Character);
        }
    }
    Ok(())
}

/// Appends a checked name in DNS wire format (RFC 1035 section 3.1), uncompressed.
pub(crate) fn encode(name: &str, out: &mut Vec<u8>) {
    for label in name.split('.') {
        // `check` has limited every label to 63 bytes; the mask keeps a later mistake from
        // turning a length into a compression pointer.
        out.push(label.len() as u8 & 0x3f);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
}
