//! Values that many elements share.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An element that says all by being there, such as `<readonly/>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// `yes` or `no`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum YesNo {
    /// True.
    Yes,
    /// False.
    No,
}

impl From<bool> for YesNo {
    fn from(value: bool) -> Self {
        if value { Self::Yes } else { Self::No }
    }
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOff {
    /// True.
    On,
    /// False.
    Off,
}

impl From<bool> for OnOff {
    fn from(value: bool) -> Self {
        if value { Self::On } else { Self::Off }
    }
}

/// What the source of a disk or of a variable store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// A file.
    #[default]
    File,
    /// A block device.
    Block,
}

/// An amount of memory with its unit (formatdomain.html, "Memory Allocation").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaled {
    /// The unit, such as `b`, `KiB`, `M`; KiB where `None`.
    #[serde(rename = "@unit", skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether QEMU's core dumps hold the guest's memory (`<memory>` only).
    #[serde(rename = "@dumpCore", skip_serializing_if = "Option::is_none")]
    pub dump_core: Option<OnOff>,
    /// The amount.
    #[serde(rename = "$text")]
    pub value: u64,
}

impl Scaled {
    /// `value` bytes.
    #[must_use]
    pub fn bytes(value: u64) -> Self {
        Self {
            unit: Some("b".to_owned()),
            dump_core: None,
            value,
        }
    }
}

/// A number that libvirt writes as `0x…`, with at least `WIDTH` digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hex<const WIDTH: usize>(pub u64);

impl<const WIDTH: usize> fmt::Display for Hex<WIDTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:0WIDTH$x}", self.0)
    }
}

impl<const WIDTH: usize> FromStr for Hex<WIDTH> {
    type Err = ParseIntError;

    /// Accepts decimal digits as well.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => s.parse(),
        }
        .map(Self)
    }
}

impl<const WIDTH: usize> Serialize for Hex<WIDTH> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const WIDTH: usize> Deserialize<'de> for Hex<WIDTH> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &"a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_numbers_keep_their_width() {
        for (text, value, written) in [
            ("0x0000", 0, "0x0000"),
            ("0x1f", 0x1f, "0x001f"),
            ("31", 31, "0x001f"),
            ("0x12345", 0x12345, "0x12345"),
        ] {
            let hex: Hex<4> = text.parse().unwrap();
            assert_eq!(hex, Hex(value), "{text}");
            assert_eq!(hex.to_string(), written, "{text}");
        }
        for text in ["", "0x", "0xg", "-1", "0x10000000000000000"] {
            assert!(text.parse::<Hex<4>>().is_err(), "{text}");
        }
    }
}
