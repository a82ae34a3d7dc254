//! Whether libvirt had to ask QEMU what it can do, which costs a start seconds: the node's handler
//! has asked once, and its answers are in the cache.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

/// The answers in libvirt's cache, each with its age: one that is void is written anew.
pub(crate) struct Known(BTreeSet<(OsString, SystemTime)>);

impl Known {
    /// What the cache holds; nothing where there is none.
    pub(crate) fn read(cache: &Path) -> Self {
        let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
        let answers = entries.filter_map(|entry| {
            let written = entry.metadata().ok()?.modified().ok()?;
            Some((entry.file_name(), written))
        });
        Self(answers.collect())
    }

    /// Tells in the log how many answers have come since.
    pub(crate) fn compare(&self, cache: &Path) {
        match self.news(&Self::read(cache)) {
            0 => tracing::info!("QEMU's capabilities were known: libvirt probed nothing"),
            new => tracing::warn!("QEMU's capabilities were not known: libvirt probed {new} times"),
        }
    }

    fn news(&self, now: &Self) -> usize {
        now.0.difference(&self.0).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn new_answers_and_those_written_anew_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let before = Known::read(&dir.path().join("absent"));
        for name in ["a.xml", "b.xml"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let two = Known::read(dir.path());
        assert_eq!((before.news(&two), two.news(&two)), (2, 0));
        let file = std::fs::File::options()
            .write(true)
            .open(dir.path().join("a.xml"))
            .unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(9))
            .unwrap();
        assert_eq!(two.news(&Known::read(dir.path())), 1);
    }
}
