//! Finding out what the node is. Takes root, the node's device nodes and the right to make
//! namespaces and mounts in them (`CAP_SYS_ADMIN`): `virt-launcher` asks QEMU in a sandbox, in which
//! there is a `/dev/kvm` exactly where a launcher will have one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::caches::{publish, remove_superseded};
use super::cpu::{Cpu, CpuError};
use super::facts::{Facts, FactsError, replace};

/// How long a guest of a few instructions may take. On a /dev/kvm that is broken it never ends.
const GUEST: Duration = Duration::from_secs(5);

/// How long QEMU may take to tell what it can do; a loaded machine was seen to need 15 seconds.
const PROBE: Duration = Duration::from_secs(120);

/// The static program, beside this one and below the state directory.
const SIDECAR: &str = "virt-sidecar";

/// What libvirt said in whole about the domains it can run, beside what it keeps for itself.
const DOMAINS: &str = "domain-capabilities.xml";

/// The host's CPU as a guest may have it, every feature spelt out.
const HOST_CPU: &str = "host-cpu.xml";

/// What `prepare` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct PrepareArgs {
    /// Where things are kept on the node; a launcher's container gets mounts of it, so it is the
    /// node's own path.
    #[arg(long, env = "STATE_DIR", default_value = "/var/lib/ferrovirt")]
    pub state_dir: PathBuf,
    /// The file that `run` reads.
    #[arg(long, env = "FACTS", default_value = super::FACTS)]
    pub facts: PathBuf,
}

/// Why the node is not ready for virtual machines.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A program of the image cannot be run.
    #[error("cannot run {path}")]
    Run {
        /// The program.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// QEMU did not answer in time.
    #[error("QEMU does not tell what it can do with {accelerator} within {} s", PROBE.as_secs())]
    Slow {
        /// `kvm` or `tcg`.
        accelerator: &'static str,
    },
    /// QEMU or libvirt failed.
    #[error("cannot find out what QEMU can do with {accelerator} ({status}): {words}")]
    Failed {
        /// `kvm` or `tcg`.
        accelerator: &'static str,
        /// How the probe ended.
        status: ExitStatus,
        /// Its last words.
        words: String,
    },
    /// A file of the state directory cannot be kept.
    #[error("cannot {operation} {path}")]
    State {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// libvirt's description of the CPU is not understood.
    #[error("cannot read {path}")]
    Cpu {
        /// The file.
        path: PathBuf,
        /// Where it differs from what is expected.
        source: CpuError,
    },
    /// The facts cannot be written.
    #[error(transparent)]
    Facts(#[from] FactsError),
}

fn state(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    let path = path.to_owned();
    move |source| PrepareError::State {
        operation,
        path,
        source,
    }
}

/// Prepares the node: afterwards its handler can offer what launchers need.
///
/// # Errors
/// [`PrepareError`]; the node gets no virtual machine then.
pub async fn prepare(args: &PrepareArgs) -> Result<Facts, PrepareError> {
    let own = std::env::current_exe().map_err(state("find", Path::new("virt-handler")))?;
    let launcher = own.with_file_name("virt-launcher");
    let kvm = match kvm_works(&launcher).await? {
        Ok(()) => true,
        Err(cause) => {
            tracing::warn!("KVM does not work here: {cause}");
            false
        }
    };
    // A cluster may want emulation where KVM works, and may want so from now on.
    let accelerators = if kvm {
        ["kvm", "tcg"].as_slice()
    } else {
        &["tcg"]
    };
    let mut capabilities = BTreeMap::new();
    let mut cpu = None;
    for accelerator in accelerators {
        let cache = probe(&launcher, &args.state_dir, accelerator).await?;
        publish(&cache).map_err(state("publish", &cache))?;
        tracing::info!("{accelerator}: {}", cache.display());
        // The first is what guests have, unless the cluster wants emulation.
        cpu = Some(cpu.map_or_else(|| read_cpu(&cache), Ok)?);
        capabilities.insert((*accelerator).to_owned(), cache);
    }
    let current: Vec<_> = capabilities.values().map(PathBuf::as_path).collect();
    let parent = args.state_dir.join("capabilities");
    remove_superseded(&parent, &current).map_err(state("remove old caches of", &parent))?;
    let facts = Facts {
        kvm,
        sidecar: install(&own.with_file_name(SIDECAR), &args.state_dir)?,
        cpu: cpu.unwrap_or_default(),
        capabilities,
    };
    facts.write(&args.facts)?;
    Ok(facts)
}

/// Whether a guest of a few instructions comes to its end; why not, where it does not.
async fn kvm_works(launcher: &Path) -> Result<Result<(), String>, PrepareError> {
    let mut child = Command::new(launcher)
        .arg("kvm-probe")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(running(launcher))?;
    let Ok(ended) = timeout(GUEST, child.wait()).await else {
        // One that even SIGKILL does not end is left behind rather than waited for.
        return Ok(Err("a guest hangs on /dev/kvm".to_owned()));
    };
    let output = match ended {
        Ok(status) if status.success() => return Ok(Ok(())),
        Ok(_) => child.wait_with_output().await,
        Err(error) => Err(error),
    };
    let output = output.map_err(running(launcher))?;
    let words = last_words(&output.stderr);
    Ok(Err(words.trim_start_matches("virt-launcher: ").to_owned()))
}

/// The directory of libvirt's answers, asked now where the node has none for its present state.
async fn probe(
    launcher: &Path,
    state_dir: &Path,
    accelerator: &'static str,
) -> Result<PathBuf, PrepareError> {
    let output = Command::new(launcher)
        .arg("--root")
        .arg(state_dir)
        .args(["capabilities", "--accelerator", accelerator])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(output) = timeout(PROBE, output).await else {
        return Err(PrepareError::Slow { accelerator });
    };
    let output = output.map_err(running(launcher))?;
    if !output.status.success() {
        return Err(PrepareError::Failed {
            accelerator,
            status: output.status,
            words: last_words(&output.stderr),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().into())
}

fn running(program: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    let path = program.to_owned();
    move |source| PrepareError::Run { path, source }
}

fn last_words(output: &[u8]) -> String {
    let words = String::from_utf8_lossy(output);
    let last = words.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("it ended without a word").to_owned()
}

/// Puts the static program where containers can have it mounted.
fn install(program: &Path, state_dir: &Path) -> Result<PathBuf, PrepareError> {
    let target = state_dir.join("bin").join(SIDECAR);
    let contents = std::fs::read(program).map_err(state("read", program))?;
    if std::fs::read(&target).is_ok_and(|present| present == contents) {
        return Ok(target);
    }
    replace(&target, &contents, 0o755).map_err(state("write", &target))?;
    Ok(target)
}

/// What libvirt said about CPUs when it was asked.
fn read_cpu(cache: &Path) -> Result<Cpu, PrepareError> {
    let path = cache.join(DOMAINS);
    let domains = std::fs::read_to_string(&path).map_err(state("read", &path))?;
    // Missing where no guest can be like the host.
    let host = std::fs::read_to_string(cache.join(HOST_CPU)).ok();
    Cpu::parse(&domains, host.as_deref()).map_err(|source| PrepareError::Cpu { path, source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    // Programs of every system stand in for how the probe may end.
    #[tokio::test]
    async fn the_end_of_the_tiny_guest_decides() {
        let table = [
            ("/bin/true", Ok(())),
            ("/bin/false", Err("it ended without a word")),
            ("/bin/ls", Err("kvm-probe")),
        ];
        for (program, expected) in table {
            let works = kvm_works(Path::new(program)).await.unwrap();
            match (&works, expected) {
                (Ok(()), Ok(())) => {}
                (Err(cause), Err(part)) if cause.contains(part) => {}
                _ => panic!("{program}: {works:?}"),
            }
        }
        let missing = kvm_works(Path::new("/nonexistent/virt-launcher")).await;
        let missing = missing.unwrap_err().to_string();
        assert_eq!(missing, "cannot run /nonexistent/virt-launcher");
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_hangs_is_not_waited_for() {
        let works = kvm_works(Path::new("/usr/bin/yes")).await.unwrap();
        assert_eq!(works, Err("a guest hangs on /dev/kvm".to_owned()));
    }

    #[tokio::test]
    async fn a_probe_that_fails_is_told_with_its_end() {
        let error = probe(Path::new("/bin/false"), Path::new("/"), "tcg").await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "cannot find out what QEMU can do with tcg (exit status: 1): it ended without a word"
        );
    }

    #[test]
    fn the_last_line_that_says_something_is_told() {
        assert_eq!(last_words(b"first\nlast\n \n"), "last");
    }

    #[test]
    fn the_program_is_replaced_where_it_differs_and_only_there() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("virt-sidecar");
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        std::fs::write(&program, "old").unwrap();
        let target = install(&program, dir.path()).unwrap();
        let first = inode(&target);
        assert_eq!(install(&program, dir.path()).unwrap(), target);
        assert_eq!(inode(&target), first);
        std::fs::write(&program, "new").unwrap();
        install(&program, dir.path()).unwrap();
        assert_ne!(inode(&target), first);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
    }
}
