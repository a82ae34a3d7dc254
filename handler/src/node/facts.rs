//! What `prepare` found out about the node, for `run`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Cpu;

/// The node, as far as a handler cannot see it without privilege.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whether a guest runs with KVM.
    pub kvm: bool,
    /// The directories of libvirt's cached answers about QEMU, on the node, by accelerator (`kvm`,
    /// `tcg`).
    pub capabilities: BTreeMap<String, PathBuf>,
    /// The static program that hands a disk image out, on the node.
    pub sidecar: PathBuf,
    /// What a guest's CPU may be here.
    pub cpu: Cpu,
}

/// Why the facts cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// They cannot be read.
    #[error("cannot read {path}; `virt-handler prepare` writes it")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// They are not what this version writes.
    #[error("{path} is not of this version; run `virt-handler prepare` again")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// They cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Facts {
    /// Reads what `prepare` wrote.
    ///
    /// # Errors
    /// [`FactsError::Read`] and [`FactsError::Parse`], naming the file.
    pub fn read(path: &Path) -> Result<Self, FactsError> {
        let text = fs::read(path).map_err(|source| FactsError::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|source| FactsError::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes them, as a whole or not at all.
    ///
    /// # Errors
    /// [`FactsError::Write`], naming the file.
    pub fn write(&self, path: &Path) -> Result<(), FactsError> {
        let text = serde_json::to_vec(self).map_err(io::Error::from);
        let written = text.and_then(|text| replace(path, &text, 0o644));
        written.map_err(|source| FactsError::Write {
            path: path.to_owned(),
            source,
        })
    }
}

/// Puts a file in the place of another at once; whoever has the old one open, or mounted, keeps it.
pub(super) fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = directory.join(format!(".{name}.{}", std::process::id()));
    fs::write(&new, contents)
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::File::open(&new)?.sync_all())
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.json");
        let facts = Facts {
            kvm: true,
            capabilities: [("tcg".to_owned(), "/state/a".into())].into(),
            ..Facts::default()
        };
        facts.write(&path).unwrap();
        assert_eq!(Facts::read(&path).unwrap(), facts);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn missing_and_foreign_facts_tell_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.json");
        for contents in [None, Some("{}")] {
            if let Some(contents) = contents {
                fs::write(&path, contents).unwrap();
            }
            let error = Facts::read(&path).unwrap_err().to_string();
            assert!(error.contains("virt-handler prepare"), "{error}");
            assert!(error.contains("node.json"), "{error}");
        }
    }

    #[test]
    fn who_has_the_old_file_open_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bin/program");
        replace(&path, b"old", 0o755).unwrap();
        let old = fs::File::open(&path).unwrap();
        replace(&path, b"new", 0o755).unwrap();
        assert_eq!(io::read_to_string(old).unwrap(), "old");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o755
        );
    }
}
