//! The command line. There are few options, and the program has to be small.

use std::ffi::OsString;
use std::path::PathBuf;

/// How to call the program.
const USAGE: &str = "\
usage: virt-sidecar container-disk --socket SOCKET [--image PATH | [--kernel PATH] [--initrd PATH]]
       virt-sidecar console-log --file FILE --lock LOCK";

/// What the program is to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Hands files of its container to init.
    ContainerDisk {
        /// Where init fetches them.
        socket: PathBuf,
        /// Which files.
        wanted: Wanted,
    },
    /// Prints a guest's console.
    ConsoleLog {
        /// What the guest printed.
        file: PathBuf,
        /// The lock that init holds for life.
        lock: PathBuf,
    },
}

/// The files that init asks of a container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A disk (`containerDisk.path`); the only file of `/disk` where none is named.
    Disk(Option<PathBuf>),
    /// What is booted directly (`kernelBoot.container`): either or both.
    Boot {
        /// `kernelPath`.
        kernel: Option<PathBuf>,
        /// `initrdPath`.
        initrd: Option<PathBuf>,
    },
}

/// A command line that means nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// An argument that is not known, or comes twice.
    #[error("unexpected argument {0:?}\n{USAGE}")]
    Unexpected(OsString),
    /// An option at the end.
    #[error("{0:?} takes a value\n{USAGE}")]
    NoValue(OsString),
    /// An option without which nothing can be done.
    #[error("{0} is missing\n{USAGE}")]
    Missing(&'static str),
    /// A disk and a kernel are two containers.
    #[error("--image excludes --kernel and --initrd\n{USAGE}")]
    Both,
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Role, UsageError> {
    let role = arguments.next().ok_or(UsageError::Missing("the role"))?;
    match role.to_str() {
        Some("container-disk") => {
            let names = ["--socket", "--image", "--kernel", "--initrd"];
            let [socket, image, kernel, initrd] = options(names, arguments)?;
            let wanted = match (image, kernel, initrd) {
                (image, None, None) => Wanted::Disk(image),
                (None, kernel, initrd) => Wanted::Boot { kernel, initrd },
                _ => return Err(UsageError::Both),
            };
            Ok(Role::ContainerDisk {
                socket: socket.ok_or(UsageError::Missing("--socket"))?,
                wanted,
            })
        }
        Some("console-log") => {
            let [file, lock] = options(["--file", "--lock"], arguments)?;
            Ok(Role::ConsoleLog {
                file: file.ok_or(UsageError::Missing("--file"))?,
                lock: lock.ok_or(UsageError::Missing("--lock"))?,
            })
        }
        _ => Err(UsageError::Unexpected(role)),
    }
}

/// The values of options, in the order of their names.
fn options<const N: usize>(
    names: [&str; N],
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<[Option<PathBuf>; N], UsageError> {
    let mut values = [const { None }; N];
    while let Some(argument) = arguments.next() {
        let mut known = names.iter().zip(&mut values);
        let place = known.find_map(|(name, value)| (argument == *name).then_some(value));
        match place {
            Some(place @ None) => match arguments.next() {
                Some(value) => *place = Some(value.into()),
                None => return Err(UsageError::NoValue(argument)),
            },
            _ => return Err(UsageError::Unexpected(argument)),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Role, String> {
        let arguments = line.split_whitespace().map(OsString::from);
        parse(arguments).map_err(|error| error.to_string().lines().next().unwrap().to_owned())
    }

    #[test]
    fn roles_are_told_apart() {
        let disk = |wanted| Role::ContainerDisk {
            socket: "/s".into(),
            wanted,
        };
        let boot = |kernel: Option<&str>, initrd: Option<&str>| Wanted::Boot {
            kernel: kernel.map(PathBuf::from),
            initrd: initrd.map(PathBuf::from),
        };
        let cases = [
            ("container-disk --socket /s", disk(Wanted::Disk(None))),
            (
                "container-disk --image /a/b --socket /s",
                disk(Wanted::Disk(Some("/a/b".into()))),
            ),
            (
                "container-disk --socket /s --kernel /k",
                disk(boot(Some("/k"), None)),
            ),
            (
                "container-disk --socket /s --initrd /i --kernel /k",
                disk(boot(Some("/k"), Some("/i"))),
            ),
            (
                "console-log --file /f --lock /l",
                Role::ConsoleLog {
                    file: "/f".into(),
                    lock: "/l".into(),
                },
            ),
        ];
        for (line, role) in cases {
            assert_eq!(parsed(line), Ok(role), "{line}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let cases = [
            ("", "the role is missing"),
            ("disk", "unexpected argument \"disk\""),
            ("container-disk", "--socket is missing"),
            ("container-disk --socket", "\"--socket\" takes a value"),
            (
                "container-disk --socket a --socket b",
                "unexpected argument \"--socket\"",
            ),
            (
                "container-disk --socket a --file b",
                "unexpected argument \"--file\"",
            ),
            (
                "container-disk --socket a --image b --initrd c",
                "--image excludes --kernel and --initrd",
            ),
            ("console-log --file a", "--lock is missing"),
            ("console-log --file a b", "unexpected argument \"b\""),
        ];
        for (line, error) in cases {
            assert_eq!(parsed(line), Err(error.to_owned()), "{line}");
        }
    }
}
