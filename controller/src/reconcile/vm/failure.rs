//! Back-off of a machine whose instance fails before it ever runs.

use std::time::Duration;

use crds::{RunStrategy, VirtualMachineInstance, VirtualMachineStartFailure, VirtualMachineStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::reconcile::vmi::{is_final, phase, ran};

/// The wait after the first failure, in seconds (KubeVirt's `minInterval`).
const FIRST: i64 = 10;
/// The longest wait, in seconds (KubeVirt's `defaultMaxCrashLoopBackoffDelaySeconds`).
const MOST: i64 = 300;

/// The failures in a row, once this instance counts. None when there are none to remember.
pub(super) fn count(
    before: Option<&VirtualMachineStartFailure>,
    strategy: RunStrategy,
    vmi: Option<&VirtualMachineInstance>,
    now: Timestamp,
) -> Option<VirtualMachineStartFailure> {
    let restarts = match strategy {
        RunStrategy::Always | RunStrategy::RerunOnFailure | RunStrategy::Once => true,
        RunStrategy::Manual | RunStrategy::Halted => false,
    };
    if !restarts || vmi.is_some_and(ran) {
        return None;
    }
    let Some(failed) = vmi.filter(|vmi| is_final(phase(vmi))) else {
        return before.cloned();
    };
    let uid = &failed.metadata.uid;
    if before.is_some_and(|before| before.last_failed_vmi_uid == *uid) {
        return before.cloned();
    }
    let count = before.and_then(|before| before.consecutive_fail_count);
    let count = count.unwrap_or(0).saturating_add(1);
    let uid = uid.clone().unwrap_or_default();
    let retry = now.saturating_add(SignedDuration::from_secs(wait(count, &uid)));
    Some(VirtualMachineStartFailure {
        consecutive_fail_count: Some(count),
        retry_after_timestamp: retry.ok().map(Time),
        last_failed_vmi_uid: Some(uid),
    })
}

/// Seconds to wait after `count` failures: 10, doubled each time, at most 300. Up to a tenth more, by
/// the instance's uid, keeps machines that failed together apart.
fn wait(count: i32, uid: &str) -> i64 {
    let doublings = u32::try_from(count - 1).unwrap_or(0).min(8);
    let wait = FIRST << doublings;
    let spread = uid
        .bytes()
        .fold(0_i64, |sum, byte| (sum * 31 + i64::from(byte)) % 1009);
    (wait + spread % (wait / 10 + 1)).min(MOST)
}

/// How long the next start still has to wait. A time further ahead than any wait is of a clock that was
/// wrong, and is over.
pub(super) fn left(status: &VirtualMachineStatus, now: Timestamp) -> Option<Duration> {
    let failure = status.start_failure.as_ref()?;
    let until = failure.retry_after_timestamp.as_ref()?;
    let left = until.0.duration_since(now);
    let waits = left.is_positive() && left <= SignedDuration::from_secs(MOST);
    Duration::try_from(left).ok().filter(|_| waits)
}
