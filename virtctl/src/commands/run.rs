//! `run`: a machine with no cluster, by virt-launcher.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;
use clap::Args;

use crate::cli::Global;

/// The program that runs it.
const LAUNCHER: &str = "virt-launcher";

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(
    override_usage = "virtctl run [FLAGS] FILE",
    after_help = "FLAGS are those of `virt-launcher run`, whose --help lists them all: --images DIR, \
        --until guest-ready, --no-console, --emulation tcg, ...\n\n\
        Examples:\n  \
        sudo virtctl run vm.yaml\n  \
        sudo virtctl run --images ./images --no-console vm.yaml"
)]
pub struct Run {
    /// The manifest of a VirtualMachine or VirtualMachineInstance, and flags of virt-launcher.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FILE"
    )]
    arguments: Vec<OsString>,
}

/// The launcher cannot be run.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    /// It is nowhere.
    #[error(
        "{LAUNCHER} is neither beside virtctl nor in $PATH; it runs machines without a cluster: \
         install it there (`make build` makes both)"
    )]
    Missing,
    /// It does not start.
    #[error("cannot run {path}")]
    Execute {
        /// The program.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Run {
    /// Becomes the launcher, so it returns only to tell of an error.
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        if let Some(namespace) = &global.namespace {
            bail!(
                "a machine runs in its manifest's namespace; write metadata.namespace: {namespace} \
                 there and leave out --namespace"
            );
        }
        let own = std::env::current_exe().ok();
        let path = find(own.as_deref(), std::env::var_os("PATH"))?;
        let source = Command::new(&path)
            .arg("--root")
            .arg(global.root())
            .arg("run")
            .args(self.arguments)
            .exec();
        Err(LaunchError::Execute { path, source }.into())
    }
}

/// The launcher beside the program `own`, else the first of the directories of `search`.
fn find(own: Option<&Path>, search: Option<OsString>) -> Result<PathBuf, LaunchError> {
    let beside = own.and_then(Path::parent).map(Path::to_owned);
    let search = search.unwrap_or_default();
    let directories = beside.into_iter().chain(std::env::split_paths(&search));
    let mut files = directories.map(|directory| directory.join(LAUNCHER));
    files
        .find(|file| file.is_file())
        .ok_or(LaunchError::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_beside_is_taken_before_one_of_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let [own, path] = ["own", "path"].map(|name| dir.path().join(name));
        let program = own.join("virtctl");
        let search = || Some(path.clone().into_os_string());
        let missing = find(Some(&program), search());
        assert!(matches!(missing, Err(LaunchError::Missing)));
        for directory in [&path, &own] {
            std::fs::create_dir(directory).unwrap();
            let launcher = directory.join(LAUNCHER);
            std::fs::write(&launcher, "").unwrap();
            assert_eq!(find(Some(&program), search()).unwrap(), launcher);
        }
        assert_eq!(find(None, search()).unwrap(), path.join(LAUNCHER));
    }
}
