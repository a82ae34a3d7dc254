//! How a machine ended, as its pod shows it.

use crds::VirtualMachineInstancePhase as Phase;

use crate::reconcile::{Ended, Launcher, PodCondition};

/// What init's exit status says of the machine: it ended well.
const ENDED: i32 = 0;
/// What init's exit status says of the machine: it failed. Any other: it was never set up.
const FAILED: i32 = 3;

/// What is told where a container ended without a word.
const UNSAID: &str = "the launcher did not say why";

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Succeeded or Failed.
    pub phase: Phase,
    /// Why, for programs; of a failure.
    pub reason: String,
    /// Why, for people; of a failure.
    pub message: String,
}

impl Outcome {
    const SUCCEEDED: Self = Self {
        phase: Phase::Succeeded,
        reason: String::new(),
        message: String::new(),
    };

    fn failed(reason: &str, message: &str) -> Self {
        Self {
            phase: Phase::Failed,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    /// The pod is gone, and nobody asked the instance to end.
    pub(super) fn gone() -> Self {
        Self::failed("PodDeleted", "the pod is gone")
    }
}

/// How the machine ended, if the pod says that it did. `asked`: the instance is being deleted.
/// `ran`: it was seen to run. The reasons are those of virt-handler, where it has one.
pub(super) fn outcome(pod: &Launcher, asked: bool, ran: bool) -> Option<Outcome> {
    let over = pod.over.as_ref();
    if pod.ended.is_none() && over.is_none() {
        // The launcher waits for what will never be handed over. Once it has everything, it needs
        // nobody; and when the pod is deleted, all of them end.
        let helper = pod.failed_helper.as_ref();
        let helper = helper.filter(|_| !(ran || asked || pod.deleting));
        return helper.map(|ended| Outcome::failed("StartFailed", &last_words(ended)));
    }
    // A machine that is taken away is shut down, which looks like its own wish. The kubelet takes it
    // away without a deletion: its node shuts down, or is short of something.
    if (pod.deleting || pod.disruption.is_some()) && !asked {
        return Some(taken(pod.disruption.as_ref()));
    }
    let Some(ended) = &pod.ended else {
        // The kubelet did not take the pod, or put it out, or has forgotten its containers.
        return over.map(|over| match over.succeeded {
            true => Outcome::SUCCEEDED,
            false => Outcome::failed(or(&over.reason, "PodFailed"), &over.message),
        });
    };
    let said = or(&ended.message, UNSAID);
    Some(match ended.status {
        // That it has taken the machine away the kubelet tells only when all containers have ended.
        ENDED if over.is_none() && !asked => return None,
        ENDED => Outcome::SUCCEEDED,
        FAILED if ran => Outcome::failed("GuestCrashed", said),
        FAILED => Outcome::failed("StartFailed", said),
        _ => {
            let put_out = over.filter(|over| !over.reason.is_empty());
            if let Some(over) = put_out {
                return Some(Outcome::failed(&over.reason, &over.message));
            }
            let reason = match ended.reason.as_str() {
                "" | "Error" if ran => "LauncherFailed",
                "" | "Error" => "StartFailed",
                reason => reason,
            };
            Outcome::failed(reason, &last_words(ended))
        }
    })
}

/// The pod was taken from under the machine: evicted, preempted, drained, or deleted by hand.
fn taken(disruption: Option<&PodCondition>) -> Outcome {
    match disruption {
        Some(why) => Outcome::failed(
            "Evicted",
            &format!("the pod was evicted: {}", or(&why.message, &why.reason)),
        ),
        None => Outcome::failed("PodDeleted", "the pod was deleted"),
    }
}

fn last_words(ended: &Ended) -> String {
    let said = or(&ended.message, UNSAID);
    format!("{said} (exit status {})", ended.status)
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
