//! The kubelet's termination log: why a pod's container ended, in a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// As much as is written there, in bytes: the kubelet keeps 4 KiB a container, 12 KiB a pod.
const LONGEST: usize = 2 * 1024;

/// Opens the log; `None` outside of pods, where there is none.
///
/// # Errors
/// The kernel's answer where it is there and cannot be opened.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().append(true).open(path) {
        Ok(log) => Ok(Some(log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the cause of an end, for `kubectl describe` and whoever reads the pod's status.
pub fn write(log: &mut File, cause: &str) {
    // A cause that could not be written is in the container's log as well.
    let _ = log.write_all(line(cause).as_bytes());
}

/// A cause in one line of bounded length.
fn line(cause: &str) -> String {
    let lines = cause.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut line = lines.collect::<Vec<_>>().join("; ");
    line = line.replace(char::is_control, " ");
    line.truncate(line.floor_char_boundary(LONGEST));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_becomes_one_line_that_the_kubelet_keeps() {
        let cases = [
            ("QEMU ended", "QEMU ended"),
            (
                "the end of its log:\n  one\n\n  two\t\n",
                "the end of its log:; one; two",
            ),
            ("\u{1b}[31mred", " [31mred"),
        ];
        for (cause, expected) in cases {
            assert_eq!(line(cause), expected);
        }
        assert_eq!(line(&"ä".repeat(LONGEST)).len(), LONGEST);
        assert_eq!(
            line(&format!("x{}", "ä".repeat(LONGEST))).len(),
            LONGEST - 1
        );
    }

    #[test]
    fn words_are_written_behind_what_is_there() {
        let log = tempfile::NamedTempFile::new().unwrap();
        for cause in ["one ", "two"] {
            write(&mut open(log.path()).unwrap().unwrap(), cause);
        }
        assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "onetwo");
        assert!(open(Path::new("/absent/log")).unwrap().is_none());
    }
}
