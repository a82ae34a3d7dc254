//! What is on disk while a network is bound.
//!
//! Written before the first change is made, so that a set-up killed at any moment is run again with
//! the same decisions, and removed after the last one is taken back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::network::PodNetwork;
use crate::plan::{GuestNetwork, PlumbingMacs};

/// The state file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What was found, before any change.
    pub network: PodNetwork,
    /// The addresses chosen for our own devices.
    pub macs: PlumbingMacs,
    /// What the guest was given.
    pub guest: GuestNetwork,
}

/// The state file cannot be used. Each says what would help.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("cannot read the state file {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was not written by this program.
    #[error("the state file {} is damaged; restart the pod, or remove the file and the links it describes", path.display())]
    Parse {
        /// Where.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It cannot be written or removed.
    #[error("cannot write the state file {}; its directory has to exist and be writable", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl State {
    /// Reads the state file; none if there is none.
    ///
    /// # Errors
    ///
    /// [`StateError`] if it exists and cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>, StateError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(StateError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        match serde_json::from_slice(&text) {
            Ok(state) => Ok(Some(state)),
            Err(source) => Err(StateError::Parse {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Writes the state file so that it is whole or absent, whenever this process or the machine
    /// stops.
    ///
    /// # Errors
    ///
    /// [`StateError`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), StateError> {
        let replace = || {
            let temporary = with_suffix(path, ".new");
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            sync_directory(path)
        };
        replace().map_err(|source| StateError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Removes the state file, and what a killed [`write`](Self::write) may have left.
    ///
    /// # Errors
    ///
    /// [`StateError`] if it exists and cannot be removed.
    pub fn remove(path: &Path) -> Result<(), StateError> {
        for file in [with_suffix(path, ".new"), path.to_owned()] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StateError::Write {
                        path: file,
                        source: error,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
