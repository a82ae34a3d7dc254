//! What a machine has that a cluster could leave behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A snapshot.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Mounts, links, loop devices and cgroups, each as a line.
    things: BTreeSet<String>,
}

impl Machine {
    /// What there is now of the cluster with this name and directory, the machine's links, and loop
    /// devices that have lost their files, as a cluster's lose them.
    pub(crate) fn now(directory: &Path, name: &str) -> Self {
        let directory = directory.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = mounts.lines().filter(|line| line.contains(&directory));
        let mut things: BTreeSet<_> = mounts.map(|line| format!("mount {line}")).collect();
        things.extend(entries("/sys/class/net").map(|link| format!("link {link}")));
        things.extend(entries("/sys/block").filter_map(|device| {
            let file = fs::read_to_string(format!("/sys/block/{device}/loop/backing_file"));
            let file = file.ok().filter(|file| file.contains("(deleted)"))?;
            Some(format!("loop device {device} {}", file.trim()))
        }));
        cgroups(
            Path::new("/sys/fs/cgroup"),
            &format!("ferrovirt-{name}-"),
            4,
            &mut things,
        );
        Self { things }
    }

    /// What is there that was not.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        self.things.difference(&before.things).cloned().collect()
    }
}

fn cgroups(below: &Path, prefix: &str, depth: u8, found: &mut BTreeSet<String>) {
    for name in entries(below) {
        let path = below.join(&name);
        if name.starts_with(prefix) {
            found.insert(format!("cgroup {}", path.display()));
        } else if depth > 0 && path.is_dir() {
            cgroups(&path, prefix, depth - 1, found);
        }
    }
}

/// The processes and namespaces of a cluster, found by its first process.
#[derive(Debug)]
pub(crate) struct Lives {
    /// Pid and start time: a pid is used again.
    processes: BTreeSet<(u32, String)>,
    /// Such as `net:[4026532000]`.
    namespaces: BTreeSet<String>,
    /// When the machine's youngest process had started, as proc_pid_stat(5) counts.
    taken: u64,
}

impl Lives {
    /// All below process `first`, itself included.
    pub(crate) fn below(first: u32) -> Self {
        let parents: Vec<(u32, u32)> = pids()
            .filter_map(|pid| Some((pid, stat(pid, 1)?.parse().ok()?)))
            .collect();
        let mut all = BTreeSet::from([first]);
        loop {
            let more = parents.iter().filter(|(_, parent)| all.contains(parent));
            let more: BTreeSet<_> = more.map(|&(pid, _)| pid).collect();
            if more.is_subset(&all) {
                break;
            }
            all.extend(more);
        }
        let own: BTreeSet<_> = namespaces(std::process::id()).collect();
        Self {
            namespaces: all
                .iter()
                .flat_map(|&pid| namespaces(pid))
                .filter(|one| !own.contains(one))
                .collect(),
            processes: all
                .iter()
                .filter_map(|&pid| Some((pid, stat(pid, 19)?)))
                .collect(),
            taken: pids().filter_map(started).max().unwrap_or_default(),
        }
    }

    /// How many processes and namespaces.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.processes.len(), self.namespaces.len())
    }

    /// Those that are still there. A namespace's number is used again at once: where others make some
    /// meanwhile, as those do that are not `alone`, it is not known by who has come since.
    pub(crate) fn left(&self, alone: bool) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let processes = self.processes.iter();
        let processes = processes.filter(|(pid, start)| stat(*pid, 19).as_ref() == Some(start));
        let old = |pid: &u32| started(*pid).is_some_and(|start| start <= self.taken);
        let used = pids().filter(|pid| alone || old(pid));
        let used: BTreeSet<_> = used.flat_map(namespaces).collect();
        // A bind mount keeps a namespace too.
        let namespaces = self.namespaces.iter();
        let namespaces =
            namespaces.filter(|&one| used.contains(one) || mounts.contains(one.as_str()));
        processes
            .map(|(pid, _)| format!("process {pid}"))
            .chain(namespaces.map(|one| format!("namespace {one}")))
            .collect()
    }
}

pub(crate) fn pids() -> impl Iterator<Item = u32> {
    entries("/proc").filter_map(|name| name.parse().ok())
}

/// Field `index` of proc_pid_stat(5), counted after the program's name, which may have blanks.
fn stat(pid: u32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1;
    fields.split(' ').nth(index).map(str::to_owned)
}

/// When it started, in ticks since the machine did.
fn started(pid: u32) -> Option<u64> {
    stat(pid, 19)?.parse().ok()
}

fn namespaces(pid: u32) -> impl Iterator<Item = String> {
    let directory = format!("/proc/{pid}/ns");
    let names = entries(directory.clone());
    names.filter_map(move |name| {
        let target = fs::read_link(format!("{directory}/{name}")).ok()?;
        Some(target.display().to_string())
    })
}

fn entries(directory: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
