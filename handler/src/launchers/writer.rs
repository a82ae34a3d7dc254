//! What is known of one VM, brought to the API server: the newest, once, and not too often.

use std::sync::Arc;
use std::time::Duration;

use crds::{
    VirtualMachineInstance, VirtualMachineInstancePhase as Phase, VirtualMachineInstanceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube_client::api::{Patch, PatchParams};
use kube_client::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::bucket::Bucket;
use super::{Context, Seen};
use crate::events::{self, Note};
use crate::status::{Decision, Observed, Stage, decide, is_followed};

/// The field manager of what this node writes.
const MANAGER: &str = "virt-handler";

/// Writes of one VMI's status: so many at once, then one a period.
const WRITES: (u32, Duration) = (5, Duration::from_secs(1));

/// How long a VM that runs is not shown as running for want of its pod's addresses and its machine.
/// The kubelet looks at its containers once a second.
const AWAITED: Duration = Duration::from_secs(3);

/// How long a VM that ended well is not shown as such for want of its pod's end, which says whether
/// the cluster shut it down.
const END_AWAITED: Duration = Duration::from_secs(10);

/// How long the API server may take for one write.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first pause and the longest before a write that failed is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Keeps the status of one VMI as what is observed has it, until the VMI's end.
pub(super) async fn keep(
    context: &Context,
    mut seen: watch::Receiver<Seen>,
    mut observed: watch::Receiver<Observed>,
) {
    let mut writer = Writer {
        context,
        written: None,
        allowed: Bucket::new(WRITES.0, WRITES.1, Instant::now()),
        awaited_since: None,
        pause: PAUSES.0,
        stage: Stage::Starting,
    };
    loop {
        let now = seen.borrow_and_update().clone();
        let known = observed.borrow_and_update().clone();
        let again = match writer.step(&now, &known).await {
            Step::Over => return,
            Step::Wait(again) => again,
        };
        tokio::select! {
            changed = seen.changed() => if changed.is_err() { return },
            changed = observed.changed() => if changed.is_err() { return },
            () = at(again) => {}
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// What follows a step.
enum Step {
    /// The VMI has come to its end.
    Over,
    /// Come back when something is new, or at this time.
    Wait(Option<Instant>),
}

struct Writer<'a> {
    context: &'a Context,
    /// What the API server answered to the last write; the watch tells it later.
    written: Option<Arc<VirtualMachineInstance>>,
    allowed: Bucket,
    /// Since when what is missing is waited for.
    awaited_since: Option<Instant>,
    pause: Duration,
    /// Where the launcher's VM stood last.
    stage: Stage,
}

impl Writer<'_> {
    async fn step(&mut self, seen: &Seen, observed: &Observed) -> Step {
        let vmi = self.newest(&seen.vmi);
        if !is_live(&vmi) {
            return Step::Over;
        }
        self.announce(&vmi, observed);
        let patience = match self.stage {
            Stage::Ended(_) => END_AWAITED,
            _ => AWAITED,
        };
        let deadline = self.awaited_since.map(|since| since + patience);
        let patient = deadline.is_none_or(|deadline| Instant::now() < deadline);
        let desired = match decide(&vmi, &seen.pod, observed, patient, &now()) {
            Decision::Nothing => return Step::Wait(None),
            Decision::Await => {
                let since = *self.awaited_since.get_or_insert_with(Instant::now);
                return Step::Wait(Some(since + patience));
            }
            Decision::Write(desired) => desired,
        };
        if let Err(again) = self.allowed.take(Instant::now()) {
            return Step::Wait(Some(again));
        }
        match self.apply(&vmi, &desired).await {
            Ok(after) => {
                self.pause = PAUSES.0;
                self.awaited_since = None;
                for note in events::between(&vmi, &after, &self.stage) {
                    self.context.events.tell(&after, note);
                }
                let live = is_live(&after);
                self.written = Some(Arc::new(after));
                if live { Step::Wait(None) } else { Step::Over }
            }
            Err(error) => {
                if !error.is_stale() {
                    tracing::warn!(vmi = %vmi.name_any(), "cannot write the status; trying again: {error}");
                }
                let again = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(PAUSES.1);
                Step::Wait(Some(again))
            }
        }
    }

    /// The newer of what was watched and what was written.
    fn newest(&mut self, watched: &Arc<VirtualMachineInstance>) -> Arc<VirtualMachineInstance> {
        // The API server's resource versions of one resource are numbers that grow.
        let version = |vmi: &VirtualMachineInstance| vmi.resource_version()?.parse::<u64>().ok();
        match self
            .written
            .take_if(|written| version(written) <= version(watched))
        {
            None => self.written.clone().unwrap_or_else(|| watched.clone()),
            Some(_) => watched.clone(),
        }
    }

    /// Tells of a shutdown that has begun, which no status shows.
    fn announce(&mut self, vmi: &VirtualMachineInstance, observed: &Observed) {
        let Some(report) = &observed.report else {
            return;
        };
        if report.stage == Stage::ShuttingDown && self.stage != Stage::ShuttingDown {
            self.context.events.tell(vmi, Note::ShuttingDown);
        }
        self.stage = report.stage.clone();
    }

    async fn apply(
        &self,
        vmi: &VirtualMachineInstance,
        desired: &VirtualMachineInstanceStatus,
    ) -> Result<VirtualMachineInstance, WriteError> {
        let api: Api<VirtualMachineInstance> = Api::namespaced(
            self.context.client.clone(),
            &vmi.namespace().unwrap_or_default(),
        );
        let name = vmi.name_any();
        // With uid and version, so that neither a VMI that has taken the name nor what others
        // wrote meanwhile is overwritten.
        let patch = Patch::Apply(json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {
                "name": name,
                "uid": vmi.metadata.uid,
                "resourceVersion": vmi.metadata.resource_version,
            },
            "status": desired,
        }));
        let parameters = PatchParams::apply(MANAGER).force();
        let written = api.patch_status(&name, &parameters, &patch);
        let mut written = match timeout(PATIENCE, written).await {
            Ok(Ok(written)) => written,
            Ok(Err(kube_client::Error::Api(status))) => return Err(WriteError::Refused(status)),
            Ok(Err(error)) => return Err(WriteError::Unreachable(Box::new(error))),
            Err(_) => return Err(WriteError::Silent),
        };
        written.metadata.managed_fields = None;
        Ok(written)
    }
}

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("the API server refused it")]
    Refused(#[source] Box<kube_client::core::Status>),
    #[error("the API server cannot be reached")]
    Unreachable(#[source] Box<kube_client::Error>),
    #[error("the API server does not answer")]
    Silent,
}

impl WriteError {
    /// Whether somebody wrote in between, or it is gone: the watch says so. Until then it may be
    /// that only its kind is not served at the moment.
    fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(status) if status.is_conflict() || status.is_not_found())
    }
}

fn is_live(vmi: &VirtualMachineInstance) -> bool {
    let phase: Option<Phase> = vmi.status.as_ref().and_then(|status| status.phase);
    phase.is_some_and(is_followed)
}

/// The time, in whole seconds as Kubernetes has it.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
