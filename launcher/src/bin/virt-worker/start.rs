//! From a pod's inputs to a running domain, or to one that an earlier worker left running.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use crds::{StartStrategy, VirtualMachineInstance};
use launcher::convert::{Accelerator, BoundInterface, Host};
use launcher::init::{InheritedFile, take_over};
use launcher::lifecycle::{Input, StopReason};
use launcher::pod::Pod;
use launcher::volumes::Descriptors;
use launcher::{host, volumes};
use launcher_api::EventKind;
use tokio::sync::mpsc::UnboundedSender;

use crate::capabilities;
use crate::events::Events;
use crate::hypervisor::{Found, Hypervisor};

/// How much of the serial log a console shows after a restart, in bytes.
const LOG_END: u64 = 16 * 1024;

/// A guest that prints without end must not fill the node's disk: the log is emptied past this
/// length, in bytes. QEMU appends, so it goes on at the new end.
const LOG_LIMIT: u64 = 8 << 20;

/// How often the log's length is looked at.
const LOG_CHECK: Duration = Duration::from_secs(10);

/// How long a killed QEMU may take to be gone.
const STRAY_END: Duration = Duration::from_secs(5);

/// What a start needs.
pub(crate) struct Start {
    pub(crate) pod: Pod,
    pub(crate) vmi: VirtualMachineInstance,
    pub(crate) accelerator: Accelerator,
    /// What the images' containers handed over.
    pub(crate) descriptors: Descriptors,
    /// An earlier worker saw the guest run: it is never started a second time.
    pub(crate) started: bool,
    /// Somebody has asked for the VM's end.
    pub(crate) stopping: bool,
    /// An earlier worker saw the guest begin to power itself off.
    pub(crate) powering_off: bool,
    /// An earlier worker was here and may have left processes.
    pub(crate) again: bool,
    pub(crate) events: Events,
    pub(crate) hypervisor: Arc<OnceLock<Hypervisor>>,
    pub(crate) inputs: UnboundedSender<Input>,
}

/// Starts the domain, or takes up the one that is there, and tells the VM's task.
pub(crate) async fn start(start: Start) {
    let inputs = start.inputs.clone();
    let told = if start.started {
        match take_up(&start).await {
            Ok(found) => found,
            Err(error) => {
                // The guest may be well: init lets the next worker try, and gives up no guest.
                tracing::error!("cannot take up the domain: {error:#}");
                crate::leave(1);
            }
        }
    } else {
        let begun = begin(start).await;
        begun.unwrap_or_else(|error| Input::StartFailed(format!("{error:#}")))
    };
    // The receiver is gone only when the worker ends.
    let _ = inputs.send(told);
}

/// Finds what became of a domain that an earlier worker saw running.
async fn take_up(start: &Start) -> anyhow::Result<Input> {
    let driver = open(start).await?;
    Ok(match driver.run(|driver| driver.find()).await? {
        Found::Running { paused } => Input::Adopted { paused },
        // The worker that powered it off was killed before it could say so.
        Found::Stopped(_) | Found::Nothing if start.stopping => Input::Gone(StopReason::Destroyed),
        Found::Stopped(reason) => Input::Gone(reason),
        Found::Nothing if start.powering_off => Input::Gone(StopReason::Shutdown),
        Found::Nothing => Input::StartFailed("QEMU ended while no worker was there".into()),
    })
}

/// Makes the volumes and starts the domain; takes one up that a killed worker has just started.
async fn begin(start: Start) -> anyhow::Result<Input> {
    let layout = volumes::Layout::new(start.pod.dir()).with_descriptors(start.descriptors.clone());
    let plan = volumes::plan(&start.vmi, &layout)?;
    let kernel_boot = plan.kernel_boot.clone();
    let events = start.events.clone();
    let volumes = tokio::task::spawn_blocking(move || {
        let made = volumes::prepare(&plan)?;
        events.push(EventKind::VolumesReady, "volumes are ready");
        Ok::<_, volumes::VolumeError>(made)
    });
    let known = capabilities::Known::read(&start.pod.capabilities());
    let driver = open(&start).await?;
    if let Found::Running { paused } = driver.run(|driver| driver.find()).await? {
        return Ok(Input::Adopted { paused });
    }
    if start.again {
        end_strays();
    }
    let host = Host {
        accelerator: start.accelerator,
        emulator: host::emulator(),
        firmware: host::firmware(),
        runtime_dir: start.pod.dir().to_owned(),
        volumes: volumes.await.context("the volumes' thread ended")??,
        kernel_boot,
        interfaces: bound(&start.pod, &start.vmi)?,
    };
    let xml = launcher::convert::convert(&start.vmi, &host)?.to_xml()?;
    let groups = start.descriptors.groups();
    let groups = groups.context("cannot duplicate the disks' descriptors")?;
    driver
        .run(move |driver| driver.define(&xml, groups))
        .await?;
    start
        .events
        .push(EventKind::DomainDefined, "the domain is defined");
    let paused = start.vmi.spec.start_strategy == Some(StartStrategy::Paused);
    driver.run(move |driver| driver.start(paused)).await?;
    known.compare(&start.pod.capabilities());
    Ok(match paused {
        true => Input::StartedPaused,
        false => Input::Started,
    })
}

async fn open(start: &Start) -> anyhow::Result<Hypervisor> {
    let driver = Hypervisor::open(start.pod.libvirt_root(), start.inputs.clone()).await?;
    start
        .events
        .push(EventKind::HypervisorReady, "libvirt is open");
    // Set once: there is one start a worker.
    Ok(start.hypervisor.get_or_init(|| driver).clone())
}

/// What the images' containers handed to init, and init to its workers.
pub(crate) fn descriptors(
    container_disks: Vec<InheritedFile>,
    kernel_boot: Vec<InheritedFile>,
) -> anyhow::Result<Descriptors> {
    let take = |file: &InheritedFile| {
        let taken = take_over(file.descriptor);
        let taken = taken.with_context(|| format!("init passed no open file {}", file.name))?;
        anyhow::Ok(Arc::new(taken))
    };
    let mut descriptors = Descriptors::default();
    for file in container_disks {
        let disk = take(&file)?;
        descriptors.container_disks.insert(file.name, disk);
    }
    for file in kernel_boot {
        let place = match &file.name[..] {
            "kernel" => &mut descriptors.kernel,
            _ => &mut descriptors.initrd,
        };
        *place = Some(take(&file)?);
    }
    Ok(descriptors)
}

/// The taps that init made, by the VMI's interface names.
fn bound(
    pod: &Pod,
    vmi: &VirtualMachineInstance,
) -> anyhow::Result<BTreeMap<String, BoundInterface>> {
    let interfaces = vmi.spec.domain.devices.interfaces.iter();
    interfaces
        .map(|interface| {
            let network: netbind::GuestNetwork =
                launcher::pod::read_json(&pod.guest_network(&interface.name))?;
            let bound = BoundInterface {
                tap: network.tap.clone(),
                mac: Some(network.mac.to_string()),
                mtu: Some(network.mtu),
            };
            Ok((interface.name.clone(), bound))
        })
        .collect()
}

/// Ends what a killed worker left half started: a QEMU that libvirt has no record of, or a
/// capability probe. Such a process is init's child by now, and of no use to anyone.
fn end_strays() {
    let own = std::process::id();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return;
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // pid (comm) state ppid …; comm may hold anything, so read from its last parenthesis.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        let orphan = parent == Some("1") && pid != 1 && pid.unsigned_abs() != own;
        if orphan && stat.contains("(qemu-system") {
            let pid = nix::unistd::Pid::from_raw(pid);
            tracing::warn!("ending the QEMU process {pid} that a killed worker left half started");
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            // It holds the tap and the disks until init has reaped it.
            let until = Instant::now() + STRAY_END;
            while Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Probes QEMU once, so that later launchers find the answer in the cache. What libvirt says about
/// guests' CPUs is left beside it, for whoever tells of the node.
pub(crate) async fn probe(pod: &Pod, accelerator: Accelerator) -> anyhow::Result<()> {
    let (events, _) = tokio::sync::mpsc::unbounded_channel();
    let driver = Hypervisor::open(pod.libvirt_root(), events).await?;
    let emulator = host::emulator().map(|path| path.display().to_string());
    let kind = match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "qemu",
    };
    let answers = driver
        .run(move |driver| driver.probe(emulator.as_deref(), kind))
        .await?;
    let files = [
        ("domain-capabilities.xml", Some(answers.domains)),
        ("host-cpu.xml", answers.host_cpu),
    ];
    for (name, text) in files {
        let path = pod.capabilities().join(name);
        if let Some(text) = text {
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// The last bytes of the serial log; nothing where there is none.
pub(crate) fn end_of_log(path: &Path) -> Vec<u8> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut log = std::fs::File::open(path)?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
        let mut end = vec![];
        log.take(LOG_END).read_to_end(&mut end)?;
        Ok(end)
    };
    // The first worker finds none.
    read().unwrap_or_default()
}

/// Keeps the serial log below [`LOG_LIMIT`].
pub(crate) async fn bound_log(path: PathBuf) {
    loop {
        tokio::time::sleep(LOG_CHECK).await;
        if std::fs::metadata(&path).is_ok_and(|log| log.len() > LOG_LIMIT)
            && let Ok(log) = std::fs::OpenOptions::new().write(true).open(&path)
            && let Err(error) = log.set_len(0)
        {
            tracing::warn!("cannot empty {}: {error}", path.display());
        }
    }
}
