//! Looking after an object that is made from something else.

use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube_client::{Api, Resource};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::watch_object;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use crate::error::Chain;

/// How often the time is looked at. It is the wall clock that counts, which may be set.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(15 * 60);
/// How soon a write that failed is tried again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long a look may take: it makes a call, if any.
const LOOK: Duration = Duration::from_secs(20);

/// Looks at the object `name` as soon as it is known whether it is there, and whenever it or
/// `source` changes, for ever. A look says when the next one is due without a change.
pub(crate) async fn attend<K, T>(
    api: Api<K>,
    name: &str,
    mut source: watch::Receiver<T>,
    mut look: impl AsyncFnMut(Option<&K>, &T) -> Duration,
) -> Infallible
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Clone,
{
    let mut objects = pin!(watch_object(api, name).default_backoff());
    let mut seen = None;
    let mut wait = CHECK_EVERY;
    loop {
        let event = async {
            tokio::select! {
                object = objects.next() => object,
                Ok(()) = source.changed() => None,
            }
        };
        match timeout(wait, event).await {
            Ok(Some(Ok(object))) => seen = Some(object),
            Ok(Some(Err(error))) => {
                warn!("watching {} {name}: {}", K::kind(&()), Chain(&error));
                continue;
            }
            // A watch does not end: it was the source, or the time.
            Ok(None) | Err(_) => {}
        }
        if let Some(object) = &seen {
            let source = source.borrow_and_update().clone();
            wait = answered(name, look(object.as_ref(), &source)).await;
        }
    }
}

/// What the look says, or soon: who does not answer must not keep it from being taken again.
async fn answered(name: &str, look: impl Future<Output = Duration>) -> Duration {
    timeout(LOOK, look).await.unwrap_or_else(|_elapsed| {
        warn!("writing {name}: no answer in {} s", LOOK.as_secs());
        RETRY_AFTER
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_not_answered_is_taken_again() {
        let never = timeout(2 * LOOK, answered("it", pending()));
        assert_eq!(never.await, Ok(RETRY_AFTER));
        assert_eq!(answered("it", ready(CHECK_EVERY)).await, CHECK_EVERY);
    }
}
