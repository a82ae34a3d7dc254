//! Pulling an image is a process of its own: the launcher links no TLS.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::digest::Digest;

/// The program `virt-image-pull` and how it is to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Puller {
    /// The program; looked up in `PATH` where it is a bare name.
    pub program: PathBuf,
    /// Registries (`host` or `host:port`) that are asked without TLS.
    pub insecure_registries: Vec<String>,
}

impl Default for Puller {
    /// The program beside the one that runs, else the one in `PATH`.
    fn default() -> Self {
        const NAME: &str = "virt-image-pull";
        let beside = std::env::current_exe()
            .ok()
            .map(|own| own.with_file_name(NAME));
        let program = beside
            .filter(|path| path.is_file())
            .unwrap_or_else(|| NAME.into());
        Self {
            program,
            insecure_registries: Vec::new(),
        }
    }
}

/// What the program says on its standard output with `--json`.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Digest(Digest),
    Error(String),
}

impl Puller {
    /// Pulls into an OCI image layout; returns the digest of what the name stands for. The
    /// program shows its progress on standard error.
    ///
    /// # Errors
    /// The program's own words where it fails.
    pub(super) fn pull(&self, image: &str, layout: &Path) -> Result<Digest, String> {
        let mut arguments: Vec<OsString> = vec!["--json".into(), "--layout".into(), layout.into()];
        for registry in &self.insecure_registries {
            arguments.extend(["--insecure-registry".into(), registry.into()]);
        }
        let program = self.program.display();
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--").arg(image);
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command
            .output()
            .map_err(|error| format!("cannot run {program}: {error}"))?;
        match serde_json::from_slice(&output.stdout) {
            Ok(Answer::Digest(digest)) if output.status.success() => Ok(digest),
            Ok(Answer::Error(reason)) => Err(reason),
            _ => Err(format!("{program} ended with {}", output.status)),
        }
    }
}
