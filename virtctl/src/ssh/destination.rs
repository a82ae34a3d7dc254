//! Where to log in, and what to copy where.

use std::str::FromStr;

use crate::forward::{ParseReferenceError, Reference};

/// `[USER@]MACHINE`, with the machine as [`Reference::dotted`] has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Who logs in, where the argument says so.
    pub user: Option<String>,
    /// The machine.
    pub machine: Reference,
}

impl FromStr for Destination {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A name has no @, a user of a directory service may.
        let (user, machine) = match text.rsplit_once('@') {
            Some((user, machine)) => (Some(user.to_owned()), machine),
            None => (None, text),
        };
        Ok(Self {
            user: user.filter(|user| !user.is_empty()),
            machine: Reference::dotted(machine)?,
        })
    }
}

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// A file here.
    Local(String),
    /// A file of the guest.
    Guest(Destination, String),
}

impl Path {
    /// `DESTINATION:PATH`, or else a file here. As for scp, a file with a colon in its name is
    /// written with its directory: `./a:b`.
    pub fn parse(text: &str) -> Self {
        let guest = text.split_once(':').and_then(|(destination, path)| {
            let destination = destination.parse().ok()?;
            Some(Self::Guest(destination, path.to_owned()))
        });
        guest.unwrap_or_else(|| Self::Local(text.to_owned()))
    }
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The machine, and who logs in.
    pub guest: Destination,
    /// The guest's file.
    pub path: String,
    /// The file here.
    pub local: String,
    /// To the guest, or from it.
    pub upload: bool,
}

/// The two sides make no copy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseCopyError {
    /// Both are here.
    #[error("neither {0:?} nor {1:?} is in a machine; write one of them as [USER@][vm/]NAME:PATH")]
    Neither(String, String),
    /// Both are in guests.
    #[error(
        "both {0:?} and {1:?} are in machines; copy to this machine first (a file here with a \
         colon in its name is ./NAME)"
    )]
    Both(String, String),
}

impl Copy {
    /// From `source` to `target`.
    ///
    /// # Errors
    /// [`ParseCopyError`].
    pub fn parse(source: &str, target: &str) -> Result<Self, ParseCopyError> {
        let (guest, path, local, upload) = match (Path::parse(source), Path::parse(target)) {
            (Path::Local(local), Path::Guest(guest, path)) => (guest, path, local, true),
            (Path::Guest(guest, path), Path::Local(local)) => (guest, path, local, false),
            (Path::Local(source), Path::Local(target)) => {
                return Err(ParseCopyError::Neither(source, target));
            }
            (Path::Guest(..), Path::Guest(..)) => {
                return Err(ParseCopyError::Both(source.to_owned(), target.to_owned()));
            }
        };
        Ok(Self {
            guest,
            path,
            local,
            upload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Kind;

    fn destination(user: Option<&str>, kind: Kind, name: &str, ns: Option<&str>) -> Destination {
        Destination {
            user: user.map(str::to_owned),
            machine: Reference {
                kind,
                name: name.to_owned(),
                namespace: ns.map(str::to_owned),
            },
        }
    }

    #[test]
    fn users_and_machines_are_told_apart() {
        for (text, expected) in [
            ("demo", destination(None, Kind::Vmi, "demo", None)),
            (
                "root@demo",
                destination(Some("root"), Kind::Vmi, "demo", None),
            ),
            ("@demo", destination(None, Kind::Vmi, "demo", None)),
            (
                "root@demo.lab",
                destination(Some("root"), Kind::Vmi, "demo", Some("lab")),
            ),
            (
                "me@corp@vm/demo/lab",
                destination(Some("me@corp"), Kind::Vm, "demo", Some("lab")),
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert!("root@".parse::<Destination>().is_err());
        assert!("root@pod/demo".parse::<Destination>().is_err());
    }

    #[test]
    fn one_side_of_a_copy_is_a_guests() {
        let vm = destination(Some("root"), Kind::Vm, "demo", Some("lab"));
        let copy = |guest: &Destination, path: &str, local: &str, upload| {
            Ok(Copy {
                guest: guest.clone(),
                path: path.to_owned(),
                local: local.to_owned(),
                upload,
            })
        };
        let demo = destination(None, Kind::Vmi, "demo", None);
        for (source, target, expected) in [
            ("a", "root@vm/demo/lab:b", copy(&vm, "b", "a", true)),
            ("root@vm/demo/lab:/b:c", "a", copy(&vm, "/b:c", "a", false)),
            ("demo:", ".", copy(&demo, "", ".", false)),
            ("./a:b", "demo:~/b", copy(&demo, "~/b", "./a:b", true)),
            ("dir/a:b", "demo:b", copy(&demo, "b", "dir/a:b", true)),
            ("/tmp/a:b", "demo:b", copy(&demo, "b", "/tmp/a:b", true)),
        ] {
            assert_eq!(Copy::parse(source, target), expected, "{source} {target}");
        }
        let neither = Copy::parse("a", "./b").unwrap_err().to_string();
        assert!(
            neither.starts_with("neither \"a\" nor \"./b\""),
            "{neither}"
        );
        let both = Copy::parse("a:b", "c:d").unwrap_err().to_string();
        assert!(both.starts_with("both \"a:b\" and \"c:d\""), "{both}");
    }
}
