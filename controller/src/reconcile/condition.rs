//! Conditions: what is wanted, next to what is there.

use crds::{VirtualMachineCondition, VirtualMachineInstanceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

pub(super) const READY: &str = "Ready";
pub(super) const PAUSED: &str = "Paused";
pub(super) const POD_SCHEDULED: &str = "PodScheduled";
pub(super) const SYNCHRONIZED: &str = "Synchronized";
pub(super) const LIVE_MIGRATABLE: &str = "LiveMigratable";
pub(super) const FAILURE: &str = "Failure";
pub(super) const RESTART_REQUIRED: &str = "RestartRequired";

pub(super) const TRUE: &str = "True";
pub(super) const FALSE: &str = "False";

/// A machine's conditions and an instance's have the same fields.
pub(super) type Condition = VirtualMachineInstanceCondition;

/// A condition whose transition time [`settle`] sets.
pub(super) fn wanted(type_: &str, status: &str, reason: &str, message: &str) -> Condition {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Condition {
        last_transition_time: None,
        message: text(message),
        reason: text(reason),
        status: status.to_owned(),
        type_: type_.to_owned(),
    }
}

/// The wanted conditions, each since when it has its status: as long as it was there with it, else
/// since the time it brings, else since now.
pub(super) fn settle(
    wanted: Vec<Condition>,
    current: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let since = |condition: Condition| {
        let before = find(current, &condition.type_);
        let before = before.filter(|before| before.status == condition.status);
        let since = before.and_then(|before| before.last_transition_time.clone());
        Condition {
            last_transition_time: since.or(condition.last_transition_time).or(Some(Time(now))),
            ..condition
        }
    };
    let mut settled: Vec<_> = wanted.into_iter().map(since).collect();
    settled.sort_by(|a, b| a.type_.cmp(&b.type_));
    settled
}

/// The condition of this type.
pub(super) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The condition of this type is True.
pub(super) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == TRUE)
}

/// An instance's condition, as its machine shows it.
pub(super) fn of_machine(condition: Condition) -> VirtualMachineCondition {
    VirtualMachineCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        type_: condition.type_,
    }
}

/// A machine's condition, in the form that both are compared in.
pub(super) fn of_instance(condition: &VirtualMachineCondition) -> Condition {
    let condition = condition.clone();
    Condition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        type_: condition.type_,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn since(condition: Condition, second: i64) -> Condition {
        Condition {
            last_transition_time: Some(Time(at(second))),
            ..condition
        }
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let ready = |status, reason| wanted(READY, status, reason, "");
        let before = [since(ready(FALSE, "PodNotExists"), 1)];
        let cases = [
            (ready(FALSE, "PodNotExists"), 1),
            (ready(FALSE, "GuestNotRunning"), 1),
            (since(ready(FALSE, "GuestNotRunning"), 2), 1),
            (ready(TRUE, ""), 3),
            (since(ready(TRUE, ""), 2), 2),
            (wanted(PAUSED, FALSE, "", ""), 3),
        ];
        for (condition, second) in cases {
            let expected = [since(condition.clone(), second)];
            assert_eq!(settle(vec![condition], &before, at(3)), expected);
        }
    }

    #[test]
    fn conditions_are_ordered_by_type() {
        let settled = settle(
            vec![
                wanted(READY, TRUE, "", ""),
                wanted(LIVE_MIGRATABLE, FALSE, "", ""),
            ],
            &[],
            at(3),
        );
        let types: Vec<_> = settled.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, [LIVE_MIGRATABLE, READY]);
    }
}
