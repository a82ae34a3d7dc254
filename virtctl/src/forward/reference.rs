//! How a machine is named in one argument.

use std::str::FromStr;

use crate::cli::{Global, TargetError};
use crate::target::{Kind, Target};

/// A machine as the user names it: `[TYPE/]NAME[/NAMESPACE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Which object; a VMI where the user names no type.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its namespace, where the argument has one.
    pub namespace: Option<String>,
}

/// The text names no machine.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no machine: {reason}; write [vm/]NAME or vm/NAME/NAMESPACE")]
pub struct ParseReferenceError {
    text: String,
    reason: Reason,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("{0:?} is no type of machine, which is vm or vmi")]
    Kind(String),
    #[error("it has more than three parts")]
    Parts,
    #[error(
        "{0:?} is no name, which has lower-case letters, digits, dashes and dots, and begins and \
         ends with a letter or digit"
    )]
    Name(String),
}

impl Reference {
    /// As [`FromStr`], and of `NAME.NAMESPACE` without a type the namespace is what follows the
    /// last dot: how KubeVirt's clients named machines for `ssh`, `scp` and `port-forward` before
    /// they took a slash. A machine with a dot in its name is named with its type.
    ///
    /// # Errors
    /// [`ParseReferenceError`].
    pub fn dotted(text: &str) -> Result<Self, ParseReferenceError> {
        match text.rsplit_once('.') {
            Some((name, namespace)) if !text.contains('/') => {
                Self::new(text, Kind::Vmi, name, Some(namespace))
            }
            _ => text.parse(),
        }
    }

    /// The machine itself.
    ///
    /// # Errors
    /// [`TargetError`].
    pub async fn target(&self, global: &Global) -> Result<Target, TargetError> {
        let namespace = self.namespace.as_deref();
        global.target(self.kind, namespace, &self.name).await
    }

    fn new(
        text: &str,
        kind: Kind,
        name: &str,
        namespace: Option<&str>,
    ) -> Result<Self, ParseReferenceError> {
        for part in [Some(name), namespace].into_iter().flatten() {
            if !is_name(part) {
                return Err(ParseReferenceError {
                    text: text.to_owned(),
                    reason: Reason::Name(part.to_owned()),
                });
            }
        }
        Ok(Self {
            kind,
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| ParseReferenceError {
            text: text.to_owned(),
            reason,
        };
        let mut parts = text.split('/');
        let (first, second, third) = (parts.next(), parts.next(), parts.next());
        if parts.next().is_some() {
            return Err(error(Reason::Parts));
        }
        match (first.unwrap_or_default(), second) {
            (name, None) => Self::new(text, Kind::Vmi, name, None),
            (word, Some(name)) => {
                let kind = Kind::parse(word).ok_or_else(|| error(Reason::Kind(word.to_owned())))?;
                Self::new(text, kind, name, third)
            }
        }
    }
}

/// Whether the API server takes it for a name (RFC 1123, with dots): such a name needs no escape
/// in a path, nor quotes in a shell.
pub(crate) fn is_name(text: &str) -> bool {
    text.split('.').all(|label| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        label.bytes().all(inner)
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(kind: Kind, name: &str, namespace: Option<&str>) -> Option<Reference> {
        Some(Reference {
            kind,
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
    }

    #[test]
    fn machines_are_named_as_kubevirts_clients_name_them() {
        for (text, plain, dotted) in [
            (
                "demo",
                reference(Kind::Vmi, "demo", None),
                reference(Kind::Vmi, "demo", None),
            ),
            (
                "vm/demo",
                reference(Kind::Vm, "demo", None),
                reference(Kind::Vm, "demo", None),
            ),
            (
                "virtualmachineinstances/demo/lab",
                reference(Kind::Vmi, "demo", Some("lab")),
                reference(Kind::Vmi, "demo", Some("lab")),
            ),
            (
                "demo.lab",
                reference(Kind::Vmi, "demo.lab", None),
                reference(Kind::Vmi, "demo", Some("lab")),
            ),
            (
                "a.b.lab",
                reference(Kind::Vmi, "a.b.lab", None),
                reference(Kind::Vmi, "a.b", Some("lab")),
            ),
            (
                "vm/a.b",
                reference(Kind::Vm, "a.b", None),
                reference(Kind::Vm, "a.b", None),
            ),
        ] {
            assert_eq!(text.parse().ok(), plain, "{text}");
            assert_eq!(Reference::dotted(text).ok(), dotted, "{text}");
        }
    }

    #[test]
    fn what_names_no_machine_is_refused() {
        for (text, said) in [
            ("", "\"\" is no name"),
            ("vm/", "\"\" is no name"),
            ("vm/demo/", "\"\" is no name"),
            ("pod/demo", "\"pod\" is no type"),
            ("demo/lab", "\"demo\" is no type"),
            ("vm/demo/lab/", "more than three parts"),
            ("Demo", "\"Demo\" is no name"),
            ("..", "\"..\" is no name"),
            ("demo.", "\"demo.\" is no name"),
            ("-oProxyCommand=id", "is no name"),
            ("vm/a%2fb", "\"a%2fb\" is no name"),
            ("vm/a b", "\"a b\" is no name"),
        ] {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert!(error.ends_with("write [vm/]NAME or vm/NAME/NAMESPACE"));
            assert!(Reference::dotted(text).is_err(), "{text}");
        }
    }
}
