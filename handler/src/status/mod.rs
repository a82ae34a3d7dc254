//! What a VMI's status is to be, as far as the node can tell: pure.
//!
//! ```text
//! VMI as it is ──────────────┐
//! pod, as the kubelet tells ─┼─▶ decide ─▶ nothing | later | the fields of virt-handler
//! launcher: Report, Guest ───┘
//! ```
//!
//! virt-controller writes everything up to Scheduled and what follows from the pod; from there on
//! these fields are virt-handler's: phase and its times, reason, the conditions Paused and
//! AgentConnected, interfaces, guestOSInfo, machine, memory, volumeStatus. They are always written
//! together, as server-side apply takes away what a manager no longer names.

mod interfaces;
mod report;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crds::{
    Machine, MemoryStatus, PersistentVolumeClaimInfo, VirtualMachineInstance,
    VirtualMachineInstanceCondition as Condition, VirtualMachineInstancePhase as Phase,
    VirtualMachineInstancePhaseTransitionTimestamp as Transition, VirtualMachineInstanceStatus,
    VolumeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use launcher_api::PauseReason;

pub(crate) use launcher_api::guest::line;
pub use report::{Disk, Ended, Guest, Interface, Report, Stage};

/// The condition of a VM whose vCPUs stand still.
pub const PAUSED: &str = "Paused";

/// The condition of a VM whose guest runs an agent.
pub const AGENT_CONNECTED: &str = "AgentConnected";

/// What matters of a launcher's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// metadata.uid.
    pub uid: String,
    /// metadata.name.
    pub name: String,
    /// The uid of the VMI that it was made for.
    pub owner: String,
    /// status.podIPs.
    pub ips: Vec<IpAddr>,
    /// Whether all its containers have ended (status.phase Succeeded or Failed).
    pub over: bool,
    /// Whether it is taken away, and why.
    pub disruption: Option<Disruption>,
}

/// Why a pod is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disruption {
    /// The cluster wants it gone from this node: a drain, a taint, a more important pod, or, with
    /// no deletion, a kubelet that runs short or whose node shuts down (condition DisruptionTarget).
    Evicted,
    /// Somebody deleted it.
    Deleted,
}

/// What is known of a guest's agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Agent {
    /// It was not asked yet: what the VMI says of it stays.
    #[default]
    Unasked,
    /// It is connected, and said this; `None` where it did not answer.
    Asked(Option<Box<Guest>>),
}

/// What is known of a VM by its launcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// What the launcher said last; `None` before it said anything.
    pub report: Option<Report>,
    /// What the guest's agent said last.
    pub agent: Agent,
}

/// What is to be done about a VMI's status.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is as it should be, or not ours to write.
    Nothing,
    /// The kubelet or the launcher will tell in a moment what it should have: the pod's addresses
    /// and the machine, or whose wish the end was.
    Await,
    /// The fields of virt-handler are to be these.
    Write(Box<VirtualMachineInstanceStatus>),
}

/// Decides what to do about the status of `vmi`, which runs in `pod` on this node. `patient` is
/// whether what is missing is worth waiting for.
pub fn decide(
    vmi: &VirtualMachineInstance,
    pod: &PodFacts,
    observed: &Observed,
    patient: bool,
    now: &Time,
) -> Decision {
    let (Some(current), Some(report)) = (&vmi.status, &observed.report) else {
        return Decision::Nothing;
    };
    let Some((phase, reason)) = outcome(vmi, current, pod, report) else {
        return Decision::Nothing;
    };
    let begins = phase == Phase::Running && current.phase == Some(Phase::Scheduled);
    let addresses = !pod.ips.is_empty() || !interfaces::on_pod_network(&vmi.spec);
    let incomplete = begins && !(addresses && report.machine.is_some());
    // A kubelet that puts a pod out says so with the pod's last status and not before
    // (`mergePodStatus`); until then a guest that was shut down looks like one that wished it.
    let unclear = phase == Phase::Succeeded && !pod.over && !is_wanted_gone(vmi);
    if patient && (incomplete || unclear) {
        return Decision::Await;
    }
    let agent = agent(current, report, observed);
    let guest = match &observed.agent {
        Agent::Asked(guest) if agent => guest.as_deref(),
        _ => None,
    };
    let desired = VirtualMachineInstanceStatus {
        phase: Some(phase),
        reason: reason.map(str::to_owned),
        phase_transition_timestamps: transitions(current, phase, now),
        conditions: conditions(current, report, agent, now),
        interfaces: interfaces::interfaces(vmi, current, pod, report, guest, agent),
        guest_os_info: guest
            .map(|guest| guest.os.clone())
            .or_else(|| current.guest_os_info.clone()),
        machine: report
            .machine
            .clone()
            .map(|machine| Machine {
                type_: Some(machine),
            })
            .or_else(|| current.machine.clone()),
        memory: memory(vmi),
        volume_status: volumes(vmi, current, report),
        ..VirtualMachineInstanceStatus::default()
    };
    if is_so(current, &desired) {
        return Decision::Nothing;
    }
    Decision::Write(Box::new(desired))
}

/// Whether a VMI in this phase is for virt-handler to follow.
pub fn is_followed(phase: Phase) -> bool {
    matches!(phase, Phase::Scheduled | Phase::Running | Phase::Unknown)
}

fn is_wanted_gone(vmi: &VirtualMachineInstance) -> bool {
    vmi.metadata.deletion_timestamp.is_some()
}

/// The phase that the VMI should have and, where it ended badly, why; `None` where there is
/// nothing to say yet, or nothing any more.
fn outcome(
    vmi: &VirtualMachineInstance,
    current: &VirtualMachineInstanceStatus,
    pod: &PodFacts,
    report: &Report,
) -> Option<(Phase, Option<&'static str>)> {
    let known = current.phase.filter(|phase| is_followed(*phase))?;
    let disrupted = pod
        .disruption
        .filter(|_| !is_wanted_gone(vmi))
        .map(|why| match why {
            Disruption::Evicted => "Evicted",
            Disruption::Deleted => "PodDeleted",
        });
    match &report.stage {
        Stage::Starting => None,
        Stage::Running | Stage::Paused(_) | Stage::ShuttingDown => Some((Phase::Running, None)),
        Stage::Ended(how) => Some(match (how, disrupted) {
            // The guest was made to shut down by somebody who did not mean the VM.
            (_, Some(why)) => (Phase::Failed, Some(why)),
            (Ended::Succeeded, None) => (Phase::Succeeded, None),
            (Ended::Failed(_), None) if known == Phase::Scheduled => {
                (Phase::Failed, Some("StartFailed"))
            }
            (Ended::Failed(_), None) => (Phase::Failed, Some("GuestCrashed")),
        }),
    }
}

/// The whole list, with the phase that is new; the first time in a phase counts, as with KubeVirt.
fn transitions(
    current: &VirtualMachineInstanceStatus,
    phase: Phase,
    now: &Time,
) -> Vec<Transition> {
    let mut transitions = current.phase_transition_timestamps.clone();
    if transitions.iter().all(|known| known.phase != Some(phase)) {
        transitions.push(Transition {
            phase: Some(phase),
            phase_transition_timestamp: Some(now.clone()),
        });
    }
    transitions
}

fn condition<'a>(status: &'a VirtualMachineInstanceStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|known| known.type_ == type_)
}

/// Whether an agent is to be shown as connected. One that has just come is shown once it has
/// been asked, with what it said, in one write.
fn agent(current: &VirtualMachineInstanceStatus, report: &Report, observed: &Observed) -> bool {
    let shown = || condition(current, AGENT_CONNECTED).is_some_and(|known| known.status == "True");
    report.agent_connected && (matches!(observed.agent, Agent::Asked(_)) || shown())
}

/// The conditions of ours that hold; the others are absent, as with KubeVirt.
fn conditions(
    current: &VirtualMachineInstanceStatus,
    report: &Report,
    agent: bool,
    now: &Time,
) -> Vec<Condition> {
    let holds = |type_: &str, why: Option<(&str, &str)>| {
        let since = condition(current, type_)
            .filter(|known| known.status == "True")
            .and_then(|known| known.last_transition_time.clone());
        Condition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: why.map(|(reason, _)| reason.to_owned()),
            message: why.map(|(_, message)| message.to_owned()),
            last_transition_time: Some(since.unwrap_or_else(|| now.clone())),
        }
    };
    let paused = match &report.stage {
        Stage::Paused(reason) => Some(holds(PAUSED, Some(paused(*reason)))),
        _ => None,
    };
    let agent = agent.then(|| holds(AGENT_CONNECTED, None));
    paused.into_iter().chain(agent).collect()
}

/// Why vCPUs stand still, for programs and for people.
fn paused(reason: PauseReason) -> (&'static str, &'static str) {
    match reason {
        PauseReason::User => ("PausedByUser", "VMI was paused by user"),
        PauseReason::IoError => (
            "PausedIOError",
            "VMI was paused, a disk reported an I/O error",
        ),
        PauseReason::Watchdog => ("PausedByWatchdog", "VMI was paused by its watchdog"),
        PauseReason::Crashed => ("PausedCrashed", "VMI was paused, the guest panicked"),
        PauseReason::Unspecified | PauseReason::Other => ("Paused", "VMI was paused"),
    }
}

fn memory(vmi: &VirtualMachineInstance) -> Option<MemoryStatus> {
    let domain = &vmi.spec.domain;
    let guest = domain.memory.as_ref().and_then(|memory| memory.guest);
    let requests = domain
        .resources
        .as_ref()
        .map(|resources| &resources.requests);
    let guest = guest.or_else(|| requests?.get("memory").copied())?;
    Some(MemoryStatus {
        guest_at_boot: Some(guest),
        guest_current: Some(guest),
        guest_requested: Some(guest),
    })
}

/// The volumes that are disks, by name as with KubeVirt. What a launcher says of others is not
/// taken.
fn volumes(
    vmi: &VirtualMachineInstance,
    current: &VirtualMachineInstanceStatus,
    report: &Report,
) -> Vec<VolumeStatus> {
    if report.disks.is_empty() {
        return current.volume_status.clone();
    }
    let volumes = vmi.spec.volumes.iter().filter_map(|volume| {
        let disk = report
            .disks
            .iter()
            .find(|disk| disk.volume == volume.name)?;
        let claim = volume.persistent_volume_claim.as_ref();
        Some(VolumeStatus {
            name: volume.name.clone(),
            target: disk.target.clone(),
            size: disk.size,
            persistent_volume_claim_info: claim.map(|claim| PersistentVolumeClaimInfo {
                claim_name: Some(claim.claim_name.clone()),
                ..PersistentVolumeClaimInfo::default()
            }),
            ..VolumeStatus::default()
        })
    });
    let mut volumes: Vec<_> = volumes.collect();
    volumes.sort_by(|one, other| one.name.cmp(&other.name));
    volumes
}

/// Whether the fields of virt-handler are as they should be.
fn is_so(current: &VirtualMachineInstanceStatus, desired: &VirtualMachineInstanceStatus) -> bool {
    let ours = [PAUSED, AGENT_CONNECTED];
    current.phase == desired.phase
        && (desired.reason.is_none() || current.reason == desired.reason)
        && current.phase_transition_timestamps == desired.phase_transition_timestamps
        && ours
            .into_iter()
            .all(|type_| condition(current, type_) == condition(desired, type_))
        && current.interfaces == desired.interfaces
        && current.guest_os_info == desired.guest_os_info
        && current.machine == desired.machine
        && current.memory == desired.memory
        && current.volume_status == desired.volume_status
}
