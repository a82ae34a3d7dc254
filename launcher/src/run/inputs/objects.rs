//! Files of this machine that stand for objects of a cluster.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use k8s_openapi::api::core::v1::LocalObjectReference;

use super::super::RunArgs;
use crate::pod::QEMU_ID;
use crate::volumes::SecretData;

/// As much as a Secret of a cluster holds (bytes).
const LARGEST_SECRET: u64 = 1 << 20;

/// `NAME=PATH`: a file of this machine that stands for an object of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The object's name.
    pub name: String,
    /// The file or directory.
    pub path: PathBuf,
}

impl FromStr for Binding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Self {
                name: name.to_owned(),
                path: path.into(),
            }),
            _ => Err(format!("{text:?} is not NAME=PATH")),
        }
    }
}

/// The data of a secret or a config map. Copied, not mounted: a secret's file is rightly closed to
/// the pod's user.
pub(super) struct Secret {
    pub(super) data: Vec<u8>,
    /// Its place, relative to the runtime directory.
    pub(super) target: PathBuf,
}

/// The secrets that a cloud-init volume refers to, each with the kind of data it holds.
pub(super) fn secrets(volume: &crds::Volume) -> Vec<(&LocalObjectReference, SecretData)> {
    let (user, network) = match (&volume.cloud_init_no_cloud, &volume.cloud_init_config_drive) {
        (Some(source), _) => (&source.secret_ref, &source.network_data_secret_ref),
        (None, Some(source)) => (&source.secret_ref, &source.network_data_secret_ref),
        (None, None) => return vec![],
    };
    let user = user.iter().map(|secret| (secret, SecretData::User));
    user.chain(network.iter().map(|secret| (secret, SecretData::Network)))
        .collect()
}

/// The objects whose keys become files of a volume's disk: what they are, what may stand for
/// them, and their names.
pub(super) fn objects<'a>(
    volume: &'a crds::Volume,
    args: &'a RunArgs,
) -> impl Iterator<Item = (&'static str, &'a [Binding], &'a str)> {
    let map = volume.config_map.iter();
    let map = map.map(|map| ("config-map", args.config_maps.as_slice(), map.name.as_str()));
    let secret = volume.secret.iter();
    let secret = secret.map(|secret| {
        (
            "secret",
            args.secrets.as_slice(),
            secret.secret_name.as_str(),
        )
    });
    map.chain(secret)
}

/// The files of a directory that stands for an object: its keys.
pub(super) fn copies(directory: &Path, target: &Path) -> anyhow::Result<Vec<Secret>> {
    let shown = directory.display();
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {shown}"))?;
    let mut copies = vec![];
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {shown}"))?
            .path();
        if let Some(key) = path.file_name().filter(|_| path.is_file()) {
            copies.push(Secret {
                data: read_secret(&path)?,
                target: target.join(key),
            });
        }
    }
    if copies.is_empty() {
        bail!("{shown} holds no file; make one for each key");
    }
    Ok(copies)
}

pub(super) fn bound<'a>(
    bindings: &'a [Binding],
    kind: &str,
    name: &str,
) -> anyhow::Result<&'a Path> {
    let found = bindings.iter().find(|binding| binding.name == name);
    found.map(|binding| binding.path.as_path()).ok_or_else(|| {
        anyhow!("the manifest refers to the {kind} {name:?}; give it with --{kind} {name}=PATH")
    })
}

/// The file of a secret's key: in its directory, or the file itself.
pub(super) fn secret_file(path: &Path, data: SecretData) -> anyhow::Result<PathBuf> {
    if !path.is_dir() {
        return regular(path);
    }
    let names = data.keys();
    let found = names
        .iter()
        .map(|name| path.join(name))
        .find(|file| file.is_file());
    found.ok_or_else(|| {
        anyhow!(
            "{} holds no file named {}; make one",
            path.display(),
            names.join(" or ")
        )
    })
}

pub(super) fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let file = fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut data = vec![];
    file.take(LARGEST_SECRET + 1)
        .read_to_end(&mut data)
        .with_context(|| format!("cannot read {shown}"))?;
    if data.len() as u64 > LARGEST_SECRET {
        bail!("{shown} is longer than 1 MiB, the most that a Secret holds; make it shorter");
    }
    Ok(data)
}

/// The file of a claim, which the pod sees with the host's mode and owner.
pub(super) fn claim_file(path: &Path, read_only: bool) -> anyhow::Result<PathBuf> {
    let file = regular(path)?;
    let meta = fs::metadata(&file).with_context(|| format!("cannot read {}", path.display()))?;
    let (may, mode) = match read_only {
        true => ("read", "o+r"),
        false => ("write", "o+rw"),
    };
    if !is_allowed(meta.mode(), meta.uid(), meta.gid(), read_only) {
        let shown = path.display();
        bail!(
            "user {QEMU_ID}, whom the VM runs as, may not {may} {shown}; try: chmod {mode} {shown}"
        );
    }
    Ok(file)
}

/// Whether the pod's user may read a file with this mode and owner, and write it too.
fn is_allowed(mode: u32, owner: u32, group: u32, read_only: bool) -> bool {
    let bits = if read_only { 0o4 } else { 0o6 };
    let shift = match (owner, group) {
        (QEMU_ID, _) => 6,
        (_, QEMU_ID) => 3,
        _ => 0,
    };
    mode >> shift & bits == bits
}

fn regular(path: &Path) -> anyhow::Result<PathBuf> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !meta.is_file() {
        bail!("{} is no regular file; name one", path.display());
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_needs_both_halves() {
        assert!("a=/b".parse::<Binding>().is_ok());
        for text in ["a", "=b", "a=", ""] {
            assert!(text.parse::<Binding>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_missing_object_names_the_flag() {
        let error = bound(&[], "secret", "keys").unwrap_err().to_string();
        assert!(
            error.ends_with("give it with --secret keys=PATH"),
            "{error}"
        );
    }

    #[test]
    fn a_claim_that_the_vm_may_not_use_is_refused() {
        let cases = [
            (0o600, 0, 0, false, false),
            (0o604, 0, 0, true, false),
            (0o606, 0, 0, true, true),
            (0o640, 0, QEMU_ID, true, false),
            (0o660, 0, QEMU_ID, true, true),
            (0o606, 0, QEMU_ID, false, false),
            (0o400, QEMU_ID, 0, true, false),
            (0o600, QEMU_ID, 0, true, true),
            (0o066, QEMU_ID, QEMU_ID, false, false),
        ];
        for (mode, owner, group, readable, writable) in cases {
            let found = [true, false].map(|read_only| is_allowed(mode, owner, group, read_only));
            assert_eq!(found, [readable, writable], "{mode:o} {owner}:{group}");
        }
    }

    #[test]
    fn the_files_of_a_directory_are_keys() {
        let dir = tempfile::tempdir().unwrap();
        let error = copies(dir.path(), Path::new("config/a")).err().unwrap();
        assert!(
            error
                .to_string()
                .ends_with("holds no file; make one for each key")
        );
        fs::write(dir.path().join("key"), "value").unwrap();
        fs::create_dir(dir.path().join("more")).unwrap();
        let copies = copies(dir.path(), Path::new("config/a")).unwrap();
        let found: Vec<_> = copies.iter().map(|it| (&*it.target, &*it.data)).collect();
        assert_eq!(found, [(Path::new("config/a/key"), &b"value"[..])]);
    }

    #[test]
    fn a_secret_is_at_most_as_large_as_a_cluster_s() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("userdata");
        fs::write(&path, vec![b'a'; 1 << 20]).unwrap();
        assert_eq!(read_secret(&path).unwrap().len(), 1 << 20);
        fs::write(&path, vec![b'a'; (1 << 20) + 1]).unwrap();
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("userdata is longer than 1 MiB"), "{error}");
    }
}
