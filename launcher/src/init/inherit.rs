//! Descriptors that go from one program to the next by their numbers.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::str::FromStr;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// A file inherited from init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InheritedFile {
    /// What it is: a volume, or the role of a file that is booted.
    pub name: String,
    /// The open descriptor.
    pub descriptor: RawFd,
}

impl InheritedFile {
    pub(super) fn new(name: &str, descriptor: RawFd) -> Self {
        Self {
            name: name.to_owned(),
            descriptor,
        }
    }
}

impl FromStr for InheritedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.rsplit_once('=').and_then(|(name, descriptor)| {
            let descriptor = descriptor.parse().ok()?;
            Some(Self::new(name, descriptor))
        });
        parsed.ok_or_else(|| format!("{text:?} is not NAME=DESCRIPTOR"))
    }
}

impl std::fmt::Display for InheritedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.descriptor)
    }
}

/// Takes over a descriptor that init, or its first stage, left open for this process; the programs
/// that this one starts do not get it.
///
/// # Errors
/// The kernel's answer where there is no such descriptor.
#[expect(
    unsafe_code,
    reason = "the number of an inherited descriptor comes as an argument"
)]
pub fn take_over(descriptor: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: each descriptor is passed once, for this process to own.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    match fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Ok(owned),
        Err(errno) => {
            // Closing what is not open would be somebody else's descriptor before long.
            let _ = owned.into_raw_fd();
            Err(errno)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn inherited_files_come_back_from_their_argument() {
        let file = InheritedFile::new("disk0", 7);
        assert_eq!(file.to_string().parse(), Ok(file));
        for text in ["disk0", "disk0=", "disk0=a", "7"] {
            let error = text.parse::<InheritedFile>().unwrap_err();
            assert_eq!(error, format!("{text:?} is not NAME=DESCRIPTOR"));
        }
    }

    #[test]
    fn what_was_not_passed_is_told() {
        // No process has as many.
        assert_eq!(take_over(1 << 28).unwrap_err(), nix::Error::EBADF);
    }

    #[test]
    fn what_was_passed_ends_with_this_program() {
        let (reader, writer) = std::io::pipe().unwrap();
        let number = OwnedFd::from(reader).into_raw_fd();
        let taken = take_over(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        let flags = fcntl(&taken, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
        drop(writer);
    }
}
