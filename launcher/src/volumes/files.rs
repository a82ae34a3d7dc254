//! Directories as the kubelet fills them: secrets, config maps and the like.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::error::VolumeError;

/// Kubernetes' limit of a secret and of a config map, in bytes.
const MAX_OBJECT: u64 = 1 << 20;

/// The files below `directory`, by their paths there.
///
/// What the kubelet keeps for itself begins with two dots: `..data` leads to the directory of the
/// current version, and every visible name leads through it.
///
/// # Errors
/// [`VolumeError::Read`], of the directory or of a file.
pub(super) fn read_all(
    volume: &str,
    directory: &Path,
) -> Result<BTreeMap<String, Vec<u8>>, VolumeError> {
    let mut files = BTreeMap::new();
    collect(volume, directory, "", &mut files)?;
    Ok(files)
}

fn collect(
    volume: &str,
    directory: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), VolumeError> {
    let entries = fs::read_dir(directory).map_err(VolumeError::read(volume, directory))?;
    for entry in entries {
        let entry = entry.map_err(VolumeError::read(volume, directory))?;
        // Keys are ASCII.
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") {
            continue;
        }
        let path = entry.path();
        let inside = format!("{prefix}{name}");
        let found = fs::metadata(&path).map_err(VolumeError::read(volume, &path))?;
        if found.is_dir() {
            collect(volume, &path, &format!("{inside}/"), files)?;
        } else {
            let content = read(&path).map_err(VolumeError::read(volume, &path))?;
            files.insert(inside, content);
        }
    }
    Ok(())
}

/// The public keys in a secret: a key each line, in the order of the secret's own keys.
///
/// # Errors
/// As [`read_all`].
pub(super) fn public_keys(volume: &str, directory: &Path) -> Result<Vec<String>, VolumeError> {
    let files = read_all(volume, directory)?;
    let texts = files
        .values()
        .map(|content| String::from_utf8_lossy(content));
    Ok(texts.flat_map(|text| keys(&text)).collect())
}

/// The keys in a file such as `authorized_keys` (sshd(8)).
fn keys(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    keys.map(str::to_owned).collect()
}

/// What is under the first of these keys that is there.
///
/// # Errors
/// [`VolumeError::Read`], and [`VolumeError::SecretKey`] where none of them is there.
pub(super) fn read_key(
    volume: &str,
    directory: &Path,
    keys: [&'static str; 2],
) -> Result<Vec<u8>, VolumeError> {
    for key in keys {
        let path = directory.join(key);
        match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other.map_err(VolumeError::read(volume, &path)),
        }
    }
    Err(VolumeError::SecretKey {
        volume: volume.to_owned(),
        directory: directory.to_owned(),
        keys,
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(MAX_OBJECT)
        .read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lines() {
        let text = "# mine\n ssh-ed25519 AAAA me@here \r\n\nssh-rsa BBBB\n";
        assert_eq!(keys(text), ["ssh-ed25519 AAAA me@here", "ssh-rsa BBBB"]);
    }
}
