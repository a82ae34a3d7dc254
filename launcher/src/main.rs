//! virt-launcher: one virtual machine, in a pod or on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Args, Parser, Subcommand};
use launcher::convert::{Accelerator, BoundInterface, Host};
use launcher::emulation::{self, Emulation};
use launcher::init::{self, InitArgs};
use launcher::probe::{self, ProbeArgs};
use launcher::run::{self, RunArgs, shim};
use launcher::{host, network, pod, volumes};
use launcher_api::launcher_client::LauncherClient;
use launcher_api::local::{self, LocalVm};
use launcher_api::{
    GetDomainXmlRequest, GetStatusRequest, Phase, ShutdownRequest, Status, WatchRequest,
};
use tonic::transport::Channel;

#[derive(Parser)]
#[command(
    version,
    about = "Runs a KubeVirt virtual machine, in a pod or on this machine"
)]
struct Cli {
    /// Where local VMs and images are kept.
    #[arg(long, global = true, env = local::ROOT_VARIABLE, default_value = local::ROOT)]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the VM of a manifest on this machine, until it ends.
    #[command(after_help = "Examples:\n  \
        virt-launcher run vm.yaml\n  \
        virt-launcher run --images images --until guest-ready vm.yaml\n  \
        virt-launcher run --emulation tcg -o json vm.yaml")]
    Run(RunArgs),
    /// Print the libvirt domain XML that a manifest becomes; starts nothing.
    Render {
        /// The manifest; `-` for standard input.
        file: PathBuf,
        /// What executes the guest's instructions.
        #[arg(long, value_enum, default_value_t)]
        emulation: Emulation,
    },
    /// Attach to a running VM's serial console; Ctrl-] leaves it.
    Console(Name),
    /// Show a running VM, or all of them.
    Status {
        /// The VM's name; all VMs where absent.
        name: Option<String>,
        /// The VM's namespace.
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// One JSON object a VM.
        #[arg(long)]
        json: bool,
    },
    /// Shut a running VM down and wait for its end.
    Shutdown {
        #[command(flatten)]
        vm: Name,
        /// Seconds before it is powered off; 0 at once. Default: the manifest's.
        #[arg(long, value_name = "SECONDS")]
        grace_period: Option<u32>,
    },
    /// Print a running VM's live domain XML.
    Dumpxml(Name),
    /// Ask the guest's agent of this pod something, for the kubelet: exit status 0 or 1.
    Probe(ProbeArgs),
    /// PID 1 of a pod: sets the network up, drops privilege, looks after the worker.
    Init(InitArgs),
    /// Keeps the namespaces of a local VM.
    #[command(hide = true)]
    Sandbox {
        #[arg(long)]
        spec: PathBuf,
        #[arg(long)]
        lock: Option<i32>,
    },
    /// Prints the directory of libvirt's answers about QEMU, which is asked where there is none.
    #[command(hide = true)]
    Capabilities {
        #[arg(long)]
        accelerator: Accelerator,
    },
    /// Runs a tiny guest on /dev/kvm.
    #[command(hide = true)]
    KvmProbe,
}

#[derive(Args)]
struct Name {
    /// The VM's name.
    name: String,
    /// The VM's namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

/// A line on standard output; a reader that has gone away, as `head` does, is no error.
macro_rules! out {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match act(cli) {
        Ok(code) => code,
        Err(error) => {
            // The alternate form has the causes in the same line.
            eprintln!("virt-launcher: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: Cli) -> anyhow::Result<ExitCode> {
    let root = cli.root;
    match cli.command {
        Command::Run(args) => blocking(run::run(root, args))?,
        Command::Render { file, emulation } => out!("{}", render(&file, emulation)?),
        Command::Console(vm) => {
            let vm = vm.find(&root)?;
            blocking(async { Ok(run::attach(client(&vm).await?).await?) })?;
        }
        Command::Status {
            name,
            namespace,
            json,
        } => {
            let vms = match name {
                Some(name) => vec![Name { name, namespace }.find(&root)?],
                None => local::list(&root)?,
            };
            blocking(status(vms, json))?;
        }
        Command::Shutdown { vm, grace_period } => {
            blocking(shutdown(vm.find(&root)?, grace_period))?;
        }
        Command::Dumpxml(vm) => blocking(dump_xml(vm.find(&root)?))?,
        Command::Probe(args) => {
            let socket = probe::approach(&args)?;
            blocking(async { Ok(probe::probe(socket, &args).await?) })?;
        }
        Command::Init(args) if args.supervise => return Ok(init::supervise(&args)?.into()),
        // Becomes the supervising stage, so it returns only to tell of an error.
        Command::Init(args) => match init::set_up(&args)? {},
        Command::Sandbox { spec, lock } => {
            let spec: shim::Spec = pod::read_json(&spec)?;
            return Ok(shim::keep(&spec, lock)?.into());
        }
        Command::Capabilities { accelerator } => {
            out!("{}", run::capabilities(&root, accelerator)?.display());
        }
        Command::KvmProbe => emulation::probe_kvm().map_err(|cause| anyhow!(cause))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn blocking<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let result = runtime.block_on(task);
    // A read of the keyboard may be under way; it ends with the process.
    runtime.shutdown_background();
    result
}

impl Name {
    fn find(&self, root: &std::path::Path) -> anyhow::Result<LocalVm> {
        local::find(root, &self.namespace, &self.name)?.ok_or_else(|| {
            anyhow!(
                "no VM named {}/{} runs here; `virt-launcher status` lists those that do",
                self.namespace,
                self.name
            )
        })
    }
}

/// The domain XML of a manifest, as it would be on this machine; nothing is made.
fn render(file: &std::path::Path, emulation: Emulation) -> anyhow::Result<String> {
    let (vmi, _) = run::load(file)?;
    let accelerator: Accelerator = emulation::choose(emulation)?;
    let plan = volumes::plan(&vmi, &volumes::Layout::new(pod::RUNTIME_DIR))?;
    let interfaces = network::attachments(&vmi, network::PRIMARY)
        .map(|attachment| {
            let interface = attachment.interface;
            let bound = BoundInterface {
                tap: attachment.tap,
                mac: interface.mac_address.clone(),
                mtu: None,
            };
            (interface.name.clone(), bound)
        })
        .collect();
    let host = Host {
        accelerator,
        emulator: host::emulator(),
        firmware: host::firmware(),
        runtime_dir: pod::RUNTIME_DIR.into(),
        volumes: plan.volumes,
        kernel_boot: plan.kernel_boot,
        interfaces,
    };
    Ok(launcher::convert::convert(&vmi, &host)?.to_xml()?)
}

async fn client(vm: &LocalVm) -> anyhow::Result<LauncherClient<Channel>> {
    let client = vm.connect().await;
    client.with_context(|| format!("cannot reach {}/{}", vm.namespace, vm.name))
}

async fn status(vms: Vec<LocalVm>, json: bool) -> anyhow::Result<()> {
    if !json {
        out!(
            "{:<16} {:<24} {:<14} {:<18} REASON",
            "NAMESPACE",
            "NAME",
            "PHASE",
            "ADDRESS"
        );
    }
    for vm in vms {
        let answer = async { Ok(client(&vm).await?.get_status(GetStatusRequest {}).await?) };
        let answer: anyhow::Result<_> = answer.await;
        // A launcher that starts, or ends, at this moment.
        let status = answer
            .map(tonic::Response::into_inner)
            .unwrap_or_else(|_| Status {
                name: vm.name.clone(),
                namespace: vm.namespace.clone(),
                reason: "the launcher does not answer".into(),
                ..Status::default()
            });
        show(&status, json);
    }
    Ok(())
}

fn show(status: &Status, json: bool) {
    let phase = match status.phase() {
        Phase::Unspecified => "Unknown",
        Phase::Starting => "Starting",
        Phase::Running => "Running",
        Phase::Paused => "Paused",
        Phase::ShuttingDown => "ShuttingDown",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    };
    if json {
        let interfaces: Vec<_> = status
            .interfaces
            .iter()
            .map(|interface| {
                let addresses = interface.addresses.iter();
                let addresses: Vec<_> = addresses
                    .map(|own| serde_json::json!({"address": own.address, "leased": own.leased}))
                    .collect();
                serde_json::json!({
                    "name": interface.name,
                    "mac": interface.mac,
                    "address": interface.address,
                    "leased": interface.leased,
                    "addresses": addresses,
                })
            })
            .collect();
        let object = serde_json::json!({
            "namespace": status.namespace,
            "name": status.name,
            "phase": phase,
            "reason": status.reason,
            "interfaces": interfaces,
            "qemuPid": status.qemu_pid,
            "workerStarts": status.worker_starts,
        });
        out!("{object}");
        return;
    }
    let address = status
        .interfaces
        .first()
        .map_or("", |interface| interface.address.as_str());
    out!(
        "{:<16} {:<24} {phase:<14} {address:<18} {}",
        status.namespace,
        status.name,
        status.reason
    );
}

async fn shutdown(vm: LocalVm, grace_seconds: Option<u32>) -> anyhow::Result<()> {
    let mut client = client(&vm).await?;
    let mut events = client.watch(WatchRequest {}).await?.into_inner();
    let asked = client.shutdown(ShutdownRequest { grace_seconds }).await;
    asked.map_err(|status| anyhow!("{}", status.message()))?;
    // The stream ends with the VM, or with a worker that died; the next one goes on with it.
    while let Ok(Some(_)) = events.message().await {}
    while vm.is_kept() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn dump_xml(vm: LocalVm) -> anyhow::Result<()> {
    let answer = client(&vm)
        .await?
        .get_domain_xml(GetDomainXmlRequest {})
        .await;
    let answer = answer.map_err(|status| anyhow!("{}", status.message()))?;
    out!("{}", answer.into_inner().xml);
    Ok(())
}
