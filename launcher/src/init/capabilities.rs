//! libvirt's capability cache, from the node to the pod.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// More answers than any node has: one an emulator.
const MOST: usize = 32;

/// More than any answer takes, in bytes; libvirt 9's for x86-64 has 150 KB.
const LARGEST: u64 = 4 << 20;

/// Copies what the node's handler knows of QEMU to where libvirt looks for it; returns how many
/// answers there were.
///
/// A copy, so that no guest that took its launcher over can write what another believes.
///
/// # Errors
/// The first file that cannot be read or written; libvirt asks QEMU itself then.
pub(super) fn copy(node: &Path, cache: &Path) -> io::Result<usize> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(cache)?;
    let mut copied = 0;
    for entry in fs::read_dir(node)?.take(MOST) {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let mut answer = vec![];
        File::open(entry.path())?
            .take(LARGEST)
            .read_to_end(&mut answer)?;
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(cache.join(entry.file_name()))?;
        io::Write::write_all(&mut file, &answer)?;
        copied += 1;
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_copied_and_directories_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (node, cache) = (dir.path().join("node"), dir.path().join("a/b/cache"));
        fs::create_dir_all(node.join("directory")).unwrap();
        for name in ["one.xml", "two.xml"] {
            fs::write(node.join(name), name).unwrap();
        }
        assert_eq!(copy(&node, &cache).unwrap(), 2);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
        assert_eq!(fs::read(cache.join("two.xml")).unwrap(), b"two.xml");
    }

    #[test]
    fn no_answer_is_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let (node, cache) = (dir.path().join("node"), dir.path().join("cache"));
        fs::create_dir(&node).unwrap();
        let large = File::create(node.join("large.xml")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        copy(&node, &cache).unwrap();
        let length = fs::metadata(cache.join("large.xml")).unwrap().len();
        assert_eq!(length, LARGEST);
    }
}
