//! The directories of libvirt's cached answers, kept on the node.
//!
//! A directory belongs to one state of the machine (QEMU, libvirt, kernel, microcode, accelerator)
//! and is never changed once a launcher may have it mounted: another state is another directory.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::SystemTime;

/// How many directories stay that are of no use to this handler. A pod whose container is about to
/// be made may have been promised one by the handler before; and an update may be taken back.
const SPARE: usize = 4;

/// Makes root the owner, so that who reads it, as root or not, needs no capability, and nobody who
/// happens to have QEMU's user id on the node can change it.
pub(super) fn publish(cache: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        chown(&path, Some(0), Some(0))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    chown(cache, Some(0), Some(0))?;
    fs::set_permissions(cache, fs::Permissions::from_mode(0o755))
}

/// Removes the caches beside `current` that nobody will ask for.
pub(super) fn remove_superseded(parent: &Path, current: &[&Path]) -> io::Result<()> {
    let mut others = vec![];
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        // A probe under way has a name with a dot; `virt-launcher` removes those it left.
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && !current.contains(&entry.path().as_path()) {
            others.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    for path in superseded(others) {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

/// All but the newest.
fn superseded<T: Ord>(mut others: Vec<(SystemTime, T)>) -> impl Iterator<Item = T> {
    others.sort();
    others.truncate(others.len().saturating_sub(SPARE));
    others.into_iter().map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_newest_stay() {
        let at = |minutes| SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minutes);
        let table: [(&[u64], &[u64]); 4] = [
            (&[], &[]),
            (&[1, 2, 3, 4], &[]),
            (&[3, 1, 5, 2, 4], &[1]),
            (&[6, 5, 4, 3, 2, 1], &[1, 2]),
        ];
        for (all, expected) in table {
            let all = all.iter().map(|&minutes| (at(minutes), minutes)).collect();
            assert_eq!(superseded(all).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn current_caches_and_probes_under_way_stay_however_old_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["current", ".probe-a", "a", "b", "c", "d", "e"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("x.xml"), "").unwrap();
        }
        remove_superseded(dir.path(), &[&at("current")]).unwrap();
        assert!(at("current").exists() && at(".probe-a").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2 + SPARE);
    }
}
