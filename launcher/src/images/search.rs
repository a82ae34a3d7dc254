//! Finding one file in a stack of layers, decided from the names alone.
//!
//! Layers are read from the top down, so the first layer that speaks of a name has the last
//! word on it: it holds the file, or hides it by a whiteout (OCI `layer.md`, "Whiteouts": an
//! entry `.wh.NAME` removes NAME, `.wh..wh..opq` all that lower layers have in the directory).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::tarball::Kind;

/// A name in an image: relative to its root, of ordinary components only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ImagePath(PathBuf);

impl ImagePath {
    /// Reads a name as written in a manifest or an archive: `/` or `./` in front, doubled and
    /// trailing slashes mean nothing; `None` where it holds `..` or a NUL.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        if name.contains(&0) {
            return None;
        }
        let mut path = PathBuf::new();
        for component in Path::new(OsStr::from_bytes(name)).components() {
            match component {
                Component::Normal(part) => path.push(part),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return None,
            }
        }
        Some(Self(path))
    }

    /// The path below the image's root.
    pub(super) fn as_path(&self) -> &Path {
        &self.0
    }
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// The file of exactly this name.
    File(ImagePath),
    /// The one file that lies directly in this directory, whatever its name.
    OnlyFileIn(ImagePath),
}

/// What the search ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing of that name.
    Nothing,
    /// A file; its body is the one that [`Search::entry`] last asked for under this name.
    File(ImagePath),
    /// Another name of a file in the same layer or one below: search again from that layer.
    HardLink {
        /// The file that it names.
        target: ImagePath,
        /// The layer that holds the link; the first one fed is 0.
        layer: usize,
    },
    /// Something that is no ordinary file.
    Unusable(ImagePath, Kind),
    /// More than one file in the directory.
    Several(Vec<ImagePath>),
}

/// The state of a search, fed one layer after another from the top.
#[derive(Debug)]
pub(super) struct Search {
    directory: PathBuf,
    name: Option<PathBuf>,
    layer: usize,
    /// By name: what the topmost layer that has it says, and which layer that was.
    found: BTreeMap<ImagePath, (Kind, usize)>,
    hidden: BTreeSet<PathBuf>,
    /// What stands where a directory on the way should.
    obstacle: Option<(ImagePath, Kind)>,
    hidden_below: bool,
    current: Current,
}

/// What the layer being read says; it holds for the layers below only once this one ends.
#[derive(Debug, Default)]
struct Current {
    found: BTreeMap<ImagePath, Kind>,
    hidden: BTreeSet<PathBuf>,
    hides_all: bool,
    obstacle: Option<(ImagePath, Kind)>,
}

impl Search {
    pub(super) fn new(query: Query) -> Self {
        let (directory, name) = match query {
            Query::OnlyFileIn(directory) => (directory.0, None),
            Query::File(file) => {
                let directory = file.0.parent().unwrap_or(Path::new("")).to_owned();
                (directory, Some(file.0))
            }
        };
        Self {
            directory,
            name,
            layer: 0,
            found: BTreeMap::new(),
            hidden: BTreeSet::new(),
            obstacle: None,
            hidden_below: false,
            current: Current::default(),
        }
    }

    /// Takes note of an entry and tells whether its body is wanted now. A body asked for again
    /// under the same name replaces the first, as unpacking would.
    pub(super) fn entry(&mut self, path: &ImagePath, kind: &Kind) -> bool {
        if self.hidden_below {
            return false;
        }
        let parent = path.0.parent().unwrap_or(Path::new(""));
        let name = path.0.file_name().unwrap_or_default();
        if name == ".wh..wh..opq" {
            self.current.hides_all |= self.directory.starts_with(parent);
        } else if let Some(gone) = name.as_bytes().strip_prefix(b".wh.") {
            let gone = parent.join(OsStr::from_bytes(gone));
            self.current.hides_all |= self.directory.starts_with(&gone);
            self.current.hidden.insert(gone);
        } else if self.directory.starts_with(&path.0) {
            if *kind != Kind::Directory {
                self.current.obstacle = Some((path.clone(), kind.clone()));
            }
        } else if self.is_wanted(path, parent) {
            self.current.found.insert(path.clone(), kind.clone());
            return *kind == Kind::File && self.is_alone(path);
        }
        false
    }

    /// Ends a layer; `true` where lower ones can change nothing.
    pub(super) fn end_layer(&mut self) -> bool {
        let current = std::mem::take(&mut self.current);
        if current.obstacle.is_some() {
            self.hidden_below = true;
            // A directory above it replaced it; files below it in the same layer are a trick.
            if self.found.is_empty() || !current.found.is_empty() {
                self.obstacle = current.obstacle;
            }
        }
        for (path, kind) in current.found {
            self.hidden.insert(path.0.clone());
            self.found.insert(path, (kind, self.layer));
        }
        self.layer += 1;
        self.hidden.extend(current.hidden);
        self.hidden_below |= current.hides_all;
        self.hidden_below
            || self
                .name
                .as_ref()
                .is_some_and(|name| self.hidden.contains(name))
    }

    /// What was found, after the last layer.
    pub(super) fn outcome(mut self) -> Outcome {
        self.found
            .retain(|_, (kind, _)| *kind != Kind::Directory || self.name.is_some());
        if let Some((path, kind)) = self.obstacle {
            return Outcome::Unusable(path, kind);
        }
        let mut found = self.found.into_iter();
        match (found.next(), found.next()) {
            (None, _) => Outcome::Nothing,
            (Some((path, (kind, layer))), None) => match kind {
                Kind::File => Outcome::File(path),
                Kind::HardLink(target) => match ImagePath::parse(&target) {
                    Some(target) => Outcome::HardLink { target, layer },
                    None => Outcome::Unusable(path, Kind::HardLink(target)),
                },
                kind => Outcome::Unusable(path, kind),
            },
            (Some(first), Some(second)) => Outcome::Several(
                [first, second]
                    .into_iter()
                    .chain(found)
                    .map(|it| it.0)
                    .collect(),
            ),
        }
    }

    /// A second file makes the search fail: its body need not be read.
    fn is_alone(&self, path: &ImagePath) -> bool {
        let below = self.found.iter().map(|(path, (kind, _))| (path, kind));
        let mut others = self.current.found.iter().chain(below);
        !others.any(|(other, kind)| other != path && *kind != Kind::Directory)
    }

    fn is_wanted(&self, path: &ImagePath, parent: &Path) -> bool {
        parent == self.directory
            && self.name.as_ref().is_none_or(|name| *name == path.0)
            && !self.hidden.contains(&path.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> ImagePath {
        ImagePath::parse(name.as_bytes()).unwrap()
    }

    /// Layers from the top down; `d/` is a directory, `a -> b` a symbolic and `a => b` a hard
    /// link. Also counts the bodies asked for.
    fn search(query: Query, layers: &[&[&str]]) -> (Outcome, usize) {
        let mut search = Search::new(query);
        let mut bodies = 0;
        for layer in layers {
            for entry in *layer {
                let (name, kind) = if let Some((name, target)) = entry.split_once(" -> ") {
                    (name, Kind::SymbolicLink(target.into()))
                } else if let Some((name, target)) = entry.split_once(" => ") {
                    (name, Kind::HardLink(target.into()))
                } else if entry.ends_with('/') {
                    (*entry, Kind::Directory)
                } else {
                    (*entry, Kind::File)
                };
                bodies += usize::from(search.entry(&path(name), &kind));
            }
            if search.end_layer() {
                break;
            }
        }
        (search.outcome(), bodies)
    }

    #[test]
    fn the_only_file_in_a_directory() {
        use Outcome::*;
        let file = |name| File(path(name));
        let several = |names: &[&str]| Several(names.iter().map(|it| path(it)).collect());
        let link = |target, layer| HardLink {
            target: path(target),
            layer,
        };
        let symlink = |name, target: &str| Unusable(path(name), Kind::SymbolicLink(target.into()));
        let cases: &[(&str, &[&[&str]], Outcome, usize)] = &[
            ("empty image", &[], Nothing, 0),
            ("plain", &[&["disk/", "disk/a.img"]], file("disk/a.img"), 1),
            ("odd spelling", &[&["./disk//a.img"]], file("disk/a.img"), 1),
            (
                "deeper files do not count",
                &[&["disk/sub/", "disk/sub/a"]],
                Nothing,
                0,
            ),
            (
                "other directories",
                &[&["disks/a", "var/disk/a", "disk2"]],
                Nothing,
                0,
            ),
            (
                "a directory beside",
                &[&["disk/sub/", "disk/a"]],
                file("disk/a"),
                1,
            ),
            (
                "two",
                &[&["disk/a", "disk/b"]],
                several(&["disk/a", "disk/b"]),
                1,
            ),
            (
                "two layers",
                &[&["disk/a"], &["disk/b"]],
                several(&["disk/a", "disk/b"]),
                1,
            ),
            (
                "the upper wins",
                &[&["disk/a"], &["disk/a"]],
                file("disk/a"),
                1,
            ),
            (
                "the later wins",
                &[&["disk/a", "disk/a"]],
                file("disk/a"),
                2,
            ),
            ("removed", &[&["disk/.wh.a"], &["disk/a"]], Nothing, 0),
            (
                "replaced",
                &[&["disk/.wh.a", "disk/b"], &["disk/a"]],
                file("disk/b"),
                1,
            ),
            (
                "made again",
                &[&["disk/a", "disk/.wh.a"], &["disk/a"]],
                file("disk/a"),
                1,
            ),
            (
                "opaque",
                &[&["disk/b", "disk/.wh..wh..opq"], &["disk/a"]],
                file("disk/b"),
                1,
            ),
            (
                "directory removed",
                &[&[".wh.disk"], &["disk/a"]],
                Nothing,
                0,
            ),
            ("root opaque", &[&[".wh..wh..opq"], &["disk/a"]], Nothing, 0),
            (
                "removal elsewhere",
                &[&["etc/.wh.a", ".wh.a"], &["disk/a"]],
                file("disk/a"),
                1,
            ),
            (
                "became a directory",
                &[&["disk/a/"], &["disk/a"]],
                Nothing,
                0,
            ),
            (
                "hard link",
                &[&[], &["disk/a => img/a"]],
                link("img/a", 1),
                0,
            ),
            (
                "symbolic link",
                &[&["disk/a -> /etc/shadow"]],
                symlink("disk/a", "/etc/shadow"),
                0,
            ),
            (
                "directory is a link",
                &[&["disk -> x"], &["disk/a"]],
                symlink("disk", "x"),
                0,
            ),
            (
                "a link and its file",
                &[&["disk -> x", "disk/a"]],
                symlink("disk", "x"),
                1,
            ),
            (
                "a link replaced",
                &[&["disk/", "disk/a"], &["disk -> x"]],
                file("disk/a"),
                1,
            ),
        ];
        for (name, layers, outcome, bodies) in cases {
            let found = search(Query::OnlyFileIn(path("/disk")), layers);
            assert_eq!(found, (outcome.clone(), *bodies), "{name}");
        }
    }

    #[test]
    fn a_file_by_name() {
        use Outcome::*;
        let cases: &[(&str, &[&[&str]], Outcome)] = &[
            (
                "present",
                &[&["boot/vmlinuz", "boot/initrd"]],
                File(path("boot/vmlinuz")),
            ),
            ("absent", &[&["boot/initrd"]], Nothing),
            (
                "below",
                &[&["etc/x"], &["boot/vmlinuz"]],
                File(path("boot/vmlinuz")),
            ),
            (
                "removed",
                &[&["boot/.wh.vmlinuz"], &["boot/vmlinuz"]],
                Nothing,
            ),
            (
                "a directory",
                &[&["boot/vmlinuz/"]],
                Unusable(path("boot/vmlinuz"), Kind::Directory),
            ),
            ("at the root", &[&["vmlinuz"]], Nothing),
        ];
        for (name, layers, outcome) in cases {
            let found = search(Query::File(path("/boot/vmlinuz")), layers).0;
            assert_eq!(found, *outcome, "{name}");
        }
        let found = search(Query::File(path("vmlinuz")), &[&["./vmlinuz"]]).0;
        assert_eq!(found, File(path("vmlinuz")));
    }

    #[test]
    fn names_that_climb_are_no_names() {
        for name in ["..", "disk/../a", "../../etc/passwd", "/..", "a\0b"] {
            assert_eq!(ImagePath::parse(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(path("//./disk/./a/").as_path(), Path::new("disk/a"));
    }
}
