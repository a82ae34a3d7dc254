//! virt-worker: the unprivileged half of the launcher. It makes the disks, drives libvirt's
//! embedded QEMU driver, answers the guest's DHCP, is its IPv6 router's voice and serves the
//! launcher's protocol.
//!
//! `virt-launcher init` starts it and starts it again when it dies; the guest notices neither.
//! Exit status: 0 where the VM ended well, 3 where it failed; anything else is a worker that
//! init replaces.

mod agent;
mod capabilities;
mod console;
mod dhcp;
mod events;
mod hypervisor;
mod live;
mod server;
mod start;
mod stats;
mod vm;
mod vnc;

use std::fs::Permissions;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use crds::VirtualMachineInstance;
use launcher::convert::Accelerator;
use launcher::init::{InheritedFile, PacketSockets, last_words, take_over};
use launcher::lifecycle::{Outcome, Record};
use launcher::pod::{self, Pod};
use launcher::volumes::Descriptors;
use launcher_api::launcher_server::LauncherServer;
use launcher_api::{EventKind, Phase, Status};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnixListenerStream;

use events::Events;
use vnc::Vnc;

/// What clients may send before anybody has taken it, in bytes: a stream's, a connection's. A
/// console whose guest does not read holds up no other call.
const WINDOWS: (u32, u32) = (64 * 1024, 1024 * 1024);

/// How long a client may take to read the last events before the worker leaves.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who may block at once: the volumes, libvirt's calls and the guest's agent.
const BLOCKING: usize = 3;

#[derive(Parser)]
#[command(
    version,
    about = "The unprivileged half of the launcher; started by virt-launcher init"
)]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Runs the VM of a pod.
    Run {
        /// The pod's runtime directory.
        #[arg(long)]
        runtime_dir: PathBuf,
        /// What executes the guest's instructions.
        #[arg(long)]
        accelerator: Accelerator,
        /// The packet sockets of an interface, as INTERFACE=TAP[,UPLINK].
        #[arg(long)]
        packet_sockets: Vec<PacketSockets>,
        /// The open disk of a containerDisk, as VOLUME=DESCRIPTOR.
        #[arg(long)]
        container_disk_file: Vec<InheritedFile>,
        /// The open kernel or initrd, as ROLE=DESCRIPTOR.
        #[arg(long)]
        kernel_boot_file: Vec<InheritedFile>,
        /// The kubelet's open termination log.
        #[arg(long)]
        termination_descriptor: Option<RawFd>,
        /// When init began, in microseconds of `CLOCK_MONOTONIC`.
        #[arg(long)]
        init_began: Option<u64>,
    },
    /// Fills libvirt's capability cache below the pod's runtime directory.
    Probe {
        /// The pod's runtime directory.
        #[arg(long)]
        runtime_dir: PathBuf,
        /// What executes the guest's instructions.
        #[arg(long)]
        accelerator: Accelerator,
    },
}

fn main() {
    let status = act().unwrap_or_else(|error| {
        // The alternate form has the causes in the same line.
        eprintln!("virt-worker: {error:#}");
        1
    });
    leave(status)
}

/// Ends the process at once. exit(3) would first run what libraries have registered: OpenSSL's clears
/// memory away while libvirt's threads, which nothing ends before, still use it.
#[expect(unsafe_code, reason = "nothing safe ends a process without exit(3)")]
fn leave(status: u8) -> ! {
    // SAFETY: _exit(2) takes any status, and leaves nothing behind that could see what it skips.
    unsafe { nix::libc::_exit(status.into()) }
}

/// The status to end with.
fn act() -> anyhow::Result<u8> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .build()
        .context("cannot start the event loop")?;
    match Args::parse().role {
        Role::Run {
            runtime_dir,
            accelerator,
            packet_sockets,
            container_disk_file,
            kernel_boot_file,
            termination_descriptor,
            init_began,
        } => {
            let termination_log = termination_descriptor.map(take_over).transpose();
            let termination_log = termination_log.context("init passed no termination log")?;
            let outcome = runtime.block_on(run(
                Pod::new(runtime_dir),
                accelerator,
                packet_sockets,
                start::descriptors(container_disk_file, kernel_boot_file)?,
                init_began,
            ))?;
            if let (Outcome::Failed(cause), Some(log)) = (&outcome, termination_log) {
                last_words::write(&mut log.into(), cause);
            }
            // Threads that wait in libvirt or on a packet socket end with the process.
            runtime.shutdown_background();
            Ok(match outcome {
                Outcome::Succeeded(_) => 0,
                Outcome::Failed(_) => launcher::init::VM_FAILED,
            })
        }
        Role::Probe {
            runtime_dir,
            accelerator,
        } => {
            unblock_signals()?;
            runtime.block_on(start::probe(&Pod::new(runtime_dir), accelerator))?;
            Ok(0)
        }
    }
}

/// init starts its workers with every signal blocked, so that a request to end which comes before
/// the worker can take it waits and does not kill it.
fn unblock_signals() -> anyhow::Result<()> {
    nix::sys::signal::SigSet::all()
        .thread_unblock()
        .context("cannot unblock signals")
}

async fn run(
    pod: Pod,
    accelerator: Accelerator,
    packet_sockets: Vec<PacketSockets>,
    descriptors: Descriptors,
    init_began: Option<u64>,
) -> anyhow::Result<Outcome> {
    let terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
    unblock_signals()?;
    let vmi: VirtualMachineInstance = pod::read_json(&pod.vmi())?;
    let mut record = pod::read_json::<Record>(&pod.record()).unwrap_or_default();
    record.worker_starts += 1;
    if let Err(error) = pod::write_json(&pod.record(), &record) {
        // A disk that is full must not end the guest.
        tracing::warn!("{error}");
    }
    let name = vmi.metadata.name.clone().unwrap_or_default();
    let namespace = vmi
        .metadata
        .namespace
        .clone()
        .unwrap_or_else(|| "default".into());
    let domain = launcher::convert::domain_name(&vmi);

    let events = Events::new();
    if let (Some(began), 1) = (init_began, record.worker_starts) {
        events.push_at(began, EventKind::InitStarted, "init runs");
    }
    events.push(
        EventKind::WorkerStarted,
        match record.worker_starts {
            1 => "the worker runs".to_owned(),
            n => format!("the worker runs again (start {n})"),
        },
    );

    let (lease_sender, leases) = mpsc::unbounded_channel();
    let interfaces = dhcp::serve(&pod, packet_sockets, &record.leased, &lease_sender)?;

    let status = watch::Sender::new(Status {
        name,
        namespace,
        phase: Phase::Starting.into(),
        interfaces,
        worker_starts: record.worker_starts,
        uid: vmi.metadata.uid.clone().unwrap_or_default(),
        ..Status::default()
    });
    let (inputs, inbox) = mpsc::unbounded_channel();
    let hypervisor = Arc::new(OnceLock::new());
    let grace = vm::grace(vmi.spec.termination_grace_period_seconds);

    let (sessions, sessions_inbox) = mpsc::channel(1);
    let recent = start::end_of_log(&pod.serial_log());
    let attached = vmi.spec.domain.devices.autoattach_serial_console;
    let console = attached
        .unwrap_or(true)
        .then(|| console::start(pod.serial_socket(), recent, sessions_inbox));
    tokio::spawn(start::bound_log(pod.serial_log()));

    let server = server::Server {
        events: events.clone(),
        status: status.subscribe(),
        inputs: inputs.clone(),
        sessions,
        vnc: Vnc::new(pod.dir().join("vnc.sock")),
        hypervisor: hypervisor.clone(),
        grace,
        pid_file: pod.qemu_pid_file(&domain),
    };
    // Left behind by a worker that was killed.
    let _ = std::fs::remove_file(pod.launcher_socket());
    let listener = UnixListener::bind(pod.launcher_socket())
        .with_context(|| format!("cannot listen at {}", pod.launcher_socket().display()))?;
    // For root without DAC_OVERRIDE, which is what the kubelet runs a probe as. Who gets this far is
    // of this pod, or the node's root: no other can enter the pod's runtime directory.
    std::fs::set_permissions(pod.launcher_socket(), Permissions::from_mode(0o666))
        .with_context(|| format!("cannot open {} to all", pod.launcher_socket().display()))?;
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(
        tonic::transport::Server::builder()
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .add_service(LauncherServer::new(server))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
                let _ = left.await;
            }),
    );

    tokio::spawn(start::start(start::Start {
        pod: pod.clone(),
        vmi,
        accelerator,
        descriptors,
        started: record.started,
        stopping: record.stop_deadline_ms.is_some(),
        powering_off: record.powering_off,
        again: record.worker_starts > 1,
        events: events.clone(),
        hypervisor: hypervisor.clone(),
        inputs: inputs.clone(),
    }));
    let task = vm::Task {
        pod,
        domain,
        record,
        events: events.clone(),
        status,
        hypervisor,
        own: inputs,
        inputs: inbox,
        leases,
        terminate,
        grace,
    };
    let outcome = task.run().await;

    events.close();
    // Its session ends well, with the VM and the last that it printed.
    if let Some(console) = console {
        console.end().await;
    }
    let _ = leave.send(());
    let _ = tokio::time::timeout(FAREWELL, serving).await;
    Ok(outcome)
}
