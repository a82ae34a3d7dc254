//! Fields by their paths, and what is wrong with them.

use std::fmt;

/// What is wrong with one field, and what to do about it. Displayed as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct FieldError {
    /// The field, such as `spec.domain.devices.disks[1].name`.
    pub path: String,
    /// What is wrong, and the remedy.
    pub detail: String,
}

/// What is wrong with the fields of one manifest, at least one of them. Displayed as one line
/// for each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

/// A field's path, to descend along.
#[derive(Clone, Debug)]
pub(crate) struct Field(String);

impl Field {
    /// The path `path` itself.
    pub(crate) fn root(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// The field `name` of this object; `name` may descend several levels.
    pub(crate) fn at(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    /// The element `index` of this list.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of this map.
    pub(crate) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key:?}]", self.0))
    }

    /// This field is wrong.
    pub(crate) fn error(&self, detail: impl Into<String>) -> FieldError {
        FieldError {
            path: self.0.clone(),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
