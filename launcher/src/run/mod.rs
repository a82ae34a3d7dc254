//! `virt-launcher run`: one VM on this machine, with no cluster.
//!
//! ```text
//! manifest ─▶ VMI ─▶ images ─▶ sandbox (CNI) ─▶ init, worker ─▶ guest
//!     each step is one line of the timeline      └─ events ─▶ timeline
//! ```
//!
//! Whatever happens, what was made is removed: by this process, by the one that keeps the
//! namespaces if this one is killed ([`shim`]), or by the next `run` if both are.

mod bridge;
mod cache;
mod cni;
mod console;
mod inputs;
mod ipv6;
mod networks;
mod ping;
mod preflight;
mod sandbox;
mod session;
pub mod shim;
mod story;
mod timeline;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

pub use cache::capabilities;
pub use console::{Left, attach};
pub use inputs::{Binding, load};
pub use timeline::Output;

use crate::emulation::Emulation;
use session::{Session, Signals};
use timeline::Timeline;

/// What `run` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The manifest: one VirtualMachine or VirtualMachineInstance; `-` for standard input.
    pub file: PathBuf,
    /// A directory with images: OCI layouts and docker archives. Others are pulled.
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// A registry (host or host:port) that is asked without TLS.
    #[arg(long, value_name = "HOST")]
    pub insecure_registry: Vec<String>,
    /// What executes the guest's instructions.
    #[arg(long, value_enum, default_value_t)]
    pub emulation: Emulation,
    /// A CNI configuration (.conf or .conflist) for the pod's own network, instead of a bridge with
    /// NAT.
    #[arg(long, value_name = "FILE")]
    pub cni_conf: Option<PathBuf>,
    /// The CNI configuration that stands for a multus network: NAME is the manifest's networkName.
    #[arg(long = "network", value_name = "NAME=FILE")]
    pub networks: Vec<Binding>,
    /// A further directory of CNI plugins; looked through first.
    #[arg(long, value_name = "DIR")]
    pub cni_bin: Vec<PathBuf>,
    /// What stands for a Secret: a directory with its keys, or the file of its user data.
    #[arg(long = "secret", value_name = "NAME=PATH")]
    pub secrets: Vec<Binding>,
    /// What stands for a ConfigMap: a directory with its keys.
    #[arg(long = "config-map", value_name = "NAME=DIR")]
    pub config_maps: Vec<Binding>,
    /// The disk image that stands for a PersistentVolumeClaim: below an ephemeral volume it is only
    /// read, else the guest writes to it.
    #[arg(long = "claim", value_name = "NAME=FILE")]
    pub claims: Vec<Binding>,
    /// End the VM, with success, once this holds.
    #[arg(long, value_enum)]
    pub until: Option<Until>,
    /// How long to wait for --until, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// How to tell what happens.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Leave the serial console alone, even on a terminal.
    #[arg(long)]
    pub no_console: bool,
}

/// What `--until` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Until {
    /// The guest holds its lease and answers a ping.
    GuestReady,
}

/// Runs a VM from its manifest to its end.
///
/// # Errors
/// What kept the VM from starting, from getting ready or from ending well.
pub async fn run(root: PathBuf, args: RunArgs) -> anyhow::Result<()> {
    let mut timeline = Timeline::new(args.output);
    let (vmi, warnings) = inputs::load(&args.file)?;
    for warning in warnings {
        timeline.note(&format!("warning: {warning}"));
    }
    preflight::check()?;
    let name = vmi.metadata.name.clone().unwrap_or_default();
    let namespace = vmi
        .metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".into());
    let accelerator = crate::emulation::choose(args.emulation)?;
    timeline.done("manifest", &format!("{namespace}/{name}, on {accelerator}"));

    sandbox::sweep(&root);
    let resolved = inputs::resolve(&root, &args, &vmi, &timeline)?;
    let networks = networks::resolve(&root, &args, &vmi, &timeline)?;
    timeline.doing("asking QEMU what it can do (once a machine)");
    let capabilities = cache::capabilities(&root, accelerator).context("cannot probe QEMU")?;

    timeline.doing("making the pod's network");
    // From here on there is something to remove, so nothing ends this process on the spot.
    let mut signals = Signals::take().context("cannot take signals")?;
    let (sandbox, lock) = sandbox::create(&root, &namespace, &name, networks)?;
    timeline.done("sandbox", &sandbox.describe());
    let result = async {
        if args.until.is_some() && !sandbox.has_address() {
            bail!(
                "{}, so the guest can take no lease and --until guest-ready would never hold; give \
                 the CNI configuration an ipam section, or leave --until out",
                sandbox.describe()
            );
        }
        let spec = inputs::furnish(&sandbox, &vmi, accelerator, &resolved, &capabilities)?;
        if signals.came() {
            bail!("interrupted before the VM was started");
        }
        let with_console = !args.no_console && args.output == Output::Text;
        let mut session = Session::start(&sandbox, &spec, &lock, &vmi, args.until, with_console)?;
        let limit = Duration::from_secs(args.timeout);
        let result = session.follow(&mut timeline, &mut signals, limit).await;
        session.end().await;
        result
    }
    .await;
    let removed = sandbox::remove(&sandbox);
    drop(lock);
    if let (Err(_), Err(error)) = (&result, &removed) {
        timeline.note(&format!("warning: {error}"));
    }
    result?;
    removed?;
    timeline.done("removed", "the sandbox is gone");
    Ok(())
}
