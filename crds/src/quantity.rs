//! Quantities: numbers with a unit, as Kubernetes writes them (`resource.Quantity` of
//! k8s.io/apimachinery).
//!
//! ```text
//! quantity ::= [+-] number [suffix]         number ::= 1 | 1.5 | 1. | .5
//! suffix   ::= n u m k M G T P E            powers of 1000
//!            | Ki Mi Gi Ti Pi Ei            powers of 1024
//!            | e[+-]N | E[+-]N              powers of 10
//! ```
//!
//! A quantity is printed in its canonical form: no fraction, no precision lost, the largest
//! suffix of its own family that allows both.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One unit in nano-units, the finest that is kept.
const UNIT: i128 = 1_000_000_000;

/// The most that is kept: 10^29 units.
const NANO_MOST: i128 = 10_i128.pow(29) * UNIT;

/// A number with a unit: bytes of memory, or CPUs.
///
/// Kept to the nano-unit, up to 10^29; what is finer is rounded away from zero, as Kubernetes
/// does. Binary quantities end at 2^63-1, and what is larger becomes that, as Kubernetes does.
/// Equality and order are those of the number: `1Ki` equals `1024`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    /// The number, in nano-units.
    nano: i128,
    family: Family,
}

/// The suffixes that a quantity was written with, and is printed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Family {
    /// n u m k M G T P E
    #[default]
    DecimalSi,
    /// Ki Mi Gi Ti Pi Ei
    BinarySi,
    /// e3
    DecimalExponent,
}

/// Suffixes of powers of 1000, by power of 10.
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// Suffixes of powers of 1024, by that power, from 1.
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// A string that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// It does not start with a number.
    #[error("{0:?} is not a quantity; write a number and a unit, such as 128Mi, 1.5Gi or 500m")]
    Number(String),
    /// Its suffix is none that Kubernetes knows.
    #[error(
        "{text:?} ends in an unknown unit {suffix:?}; use one of Ki Mi Gi Ti Pi Ei, \
         n u m k M G T P E, or an exponent such as e6"
    )]
    Suffix {
        /// All of it.
        text: String,
        /// What follows the number.
        suffix: String,
    },
    /// It is too large to be kept.
    #[error("{0:?} is too large; the most is 10^29")]
    Range(String),
}

impl Quantity {
    /// So many bytes, printed with binary suffixes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self {
            nano: i128::from(bytes) * UNIT,
            family: Family::BinarySi,
        }
    }

    /// The number in units (bytes, CPUs), rounded up. None below zero or above 2^64-1.
    pub fn bytes(&self) -> Option<u64> {
        u64::try_from(self.ceil(UNIT)).ok()
    }

    /// The number in thousandths, rounded up: Kubernetes' milli-CPU. None below zero or above
    /// 2^64-1.
    pub fn milli(&self) -> Option<u64> {
        u64::try_from(self.ceil(UNIT / 1000)).ok()
    }

    /// -1, 0 or 1, as the number is below, at or above zero.
    pub fn signum(&self) -> i32 {
        // A signum is -1, 0 or 1.
        self.nano.signum() as i32
    }

    fn ceil(&self, unit: i128) -> i128 {
        self.nano.div_euclid(unit) + i128::from(self.nano.rem_euclid(unit) != 0)
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // Kubernetes' parser reads a number without a digit as 0; its schema refuses it.
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(ParseQuantityError::Number(text.to_owned()));
        }
        let (factor, exponent, family) =
            interpret(suffix).ok_or_else(|| ParseQuantityError::Suffix {
                text: text.to_owned(),
                suffix: suffix.to_owned(),
            })?;

        let digits = format!("{whole}{fraction}");
        // A string in memory is shorter than i64::MAX.
        let point = exponent.saturating_add(whole.len() as i64);
        let mut nano = match nano_of(digits.as_bytes(), point, factor) {
            Some(nano) => nano,
            None if family == Family::BinarySi => i128::MAX,
            None => return Err(ParseQuantityError::Range(text.to_owned())),
        };
        if family == Family::BinarySi {
            nano = nano.min(i128::from(i64::MAX) * UNIT);
        }
        let family = match family {
            Family::BinarySi if nano < UNIT => Family::DecimalSi,
            other => other,
        };
        let nano = if text.starts_with('-') { -nano } else { nano };
        Ok(Self { nano, family })
    }
}

/// A suffix as a factor, a power of ten and a family.
fn interpret(suffix: &str) -> Option<(i128, i64, Family)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((1, i64::from(*exponent), Family::DecimalSi));
    }
    if let Some(power) = BINARY.iter().position(|name| *name == suffix) {
        return Some((1 << (10 * (power + 1)), 0, Family::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((1, exponent.parse().ok()?, Family::DecimalExponent))
}

/// The number whose decimal point stands behind the first `point` of `digits`, times `factor`, in
/// nano-units, rounded up. None if it cannot be kept.
fn nano_of(digits: &[u8], point: i64, factor: i128) -> Option<i128> {
    /// Digits before the point beyond these make a number that cannot be kept.
    const WHOLE_MOST: i64 = 30;
    /// Zeros behind the point beyond these leave less than one nano-unit of any factor.
    const ZEROS_MOST: i64 = 40;

    let Some(zeros) = digits.iter().position(|digit| *digit != b'0') else {
        return Some(0);
    };
    let digits = &digits[zeros..];
    let point = point.saturating_sub(zeros as i64);
    if point > WHOLE_MOST {
        return None;
    }
    let places = usize::try_from(point).unwrap_or(0);
    let (whole, fraction) = digits.split_at(places.min(digits.len()));
    let value = |digit: u8| i128::from(digit - b'0');
    let unit = factor * UNIT;
    let padding = std::iter::repeat_n(0, places - whole.len());
    let whole = whole.iter().map(|digit| value(*digit)).chain(padding);
    let whole = whole.fold(0, |number, digit| number * 10 + digit);

    // From the last digit to the point: each step divides, and none forgets a remainder.
    let zeros = point.saturating_neg().clamp(0, ZEROS_MOST);
    let zeros = (0..zeros).map(|_| 0);
    let fraction = fraction
        .iter()
        .rev()
        .map(|digit| value(*digit))
        .chain(zeros);
    let (fraction, exact) = fraction.fold((0, true), |(below, exact), digit| {
        let sum = below + digit * unit;
        (sum / 10, exact && sum % 10 == 0)
    });
    let nano = whole
        .checked_mul(unit)?
        .checked_add(fraction + i128::from(!exact))?;
    (nano <= NANO_MOST).then_some(nano)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let whole = self.nano % UNIT == 0;
        // Kubernetes prints small and fractional binary quantities as decimal ones.
        if self.family == Family::BinarySi && whole && self.nano.abs() >= 1024 * UNIT {
            let mut number = self.nano / UNIT;
            let mut suffix = "";
            for next in BINARY {
                if number % 1024 != 0 {
                    break;
                }
                number /= 1024;
                suffix = next;
            }
            return write!(f, "{number}{suffix}");
        }
        let mut number = self.nano;
        let mut exponent = -9;
        while number % 1000 == 0 {
            number /= 1000;
            exponent += 3;
        }
        match DECIMAL.iter().find(|(_, power)| *power == exponent) {
            Some((suffix, _)) if self.family != Family::DecimalExponent || exponent == 0 => {
                write!(f, "{number}{suffix}")
            }
            _ => write!(f, "{number}e{exponent}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

/// Reads a quantity from a string or a bare number, as Kubernetes does.
struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity, such as 128Mi")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        text.trim().parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
        self.visit_str(&number.to_string())
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // As controller-gen describes resource.Quantity.
        json_schema!({
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
            "x-kubernetes-int-or-string": true,
        })
    }
}
