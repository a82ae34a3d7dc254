//! Freezing the guest's file systems for somebody who knows of it afterwards, or not at all.

use std::time::Duration;

use launcher::lifecycle::{Input, THAW_RETRY};
use tokio::sync::{mpsc, oneshot};

use super::{Refusable, refused};
use crate::hypervisor::HypervisorError;

/// Freezes by `freezing` and tells `caller`, or leaves the guest as it was, by `thawing`: an agent
/// that did not answer in time may have done it all the same, and nobody thaws for a caller who has
/// gone.
pub(super) async fn freeze(
    inputs: mpsc::UnboundedSender<Input>,
    thaw_after: Option<Duration>,
    freezing: impl Future<Output = Result<(), HypervisorError>>,
    thawing: impl Future<Output = Result<(), HypervisorError>>,
    caller: oneshot::Sender<Refusable<()>>,
) {
    // Before it is: a worker that is killed at this moment leaves its successor the deadline.
    if inputs.send(Input::Frozen { thaw_after }).is_err() {
        let ended = tonic::Status::unavailable("the VM has ended");
        return drop(caller.send(Err(ended)));
    }
    let failed = match freezing.await {
        Err(error) => Some((caller, refused(error))),
        Ok(()) if caller.send(Ok(())).is_ok() => return,
        Ok(()) => None,
    };
    let left = match thawing.await {
        Ok(()) => Input::Thawed,
        Err(_) => Input::Frozen {
            thaw_after: Some(THAW_RETRY),
        },
    };
    // The receiver is gone only when the worker ends.
    drop(inputs.send(left));
    if let Some((caller, error)) = failed {
        drop(caller.send(Err(error)));
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn nobodys_guest_is_left_frozen() {
        let busy = || Err(HypervisorError::Busy);
        let frozen = |thaw_after| Input::Frozen { thaw_after };
        for (freezing, thawing, caller_waits, then) in [
            (Ok(()), Ok(()), true, None),
            (Ok(()), Ok(()), false, Some(Input::Thawed)),
            (Ok(()), busy(), false, Some(frozen(Some(THAW_RETRY)))),
            (busy(), Ok(()), true, Some(Input::Thawed)),
            (busy(), Ok(()), false, Some(Input::Thawed)),
            (busy(), busy(), true, Some(frozen(Some(THAW_RETRY)))),
        ] {
            let case = format!("{freezing:?} {thawing:?} {caller_waits}");
            let succeeds = freezing.is_ok();
            let (inputs, mut told) = mpsc::unbounded_channel();
            let (caller, answer) = oneshot::channel();
            let answer = caller_waits.then_some(answer);
            freeze(inputs, None, ready(freezing), ready(thawing), caller).await;
            assert_eq!(told.recv().await, Some(frozen(None)), "{case}");
            assert_eq!(told.recv().await, then, "{case}");
            if let Some(answer) = answer {
                assert_eq!(answer.await.unwrap().is_ok(), succeeds, "{case}");
            }
        }
    }
}
