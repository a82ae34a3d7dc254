//! Leader election: of several replicas one leads, by the Lease `virt-controller`.
//!
//! ```text
//!  time ---->   renewed      renewed     (no answer)                stops writing    may be taken
//!  holder      ----|--- 2 s ----|--- 2 s ---|--------- 10 s after the last ---|            |
//!  others                       '----------------- 15 s after they saw it change ----------'
//! ```
//!
//! Whoever waits measures 15 s by its own clock from when it saw the Lease change; clocks need not
//! agree. The holder stops 10 s after it last sent what was answered: before anybody else may start.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube_client::api::PostParams;
use kube_client::{Api, Client};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::error::Chain;

/// The Lease, in the controller's namespace.
pub const NAME: &str = "virt-controller";

/// How long a Lease is its holder's after it was renewed.
const DURATION: Duration = Duration::from_secs(15);
/// When the holder gives up leading, counted from its last renewal.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How often the holder renews, and how often the others look.
const EVERY: Duration = Duration::from_secs(2);
/// How long one call may take: two fit between renewal and giving up.
const CALL: Duration = Duration::from_secs(4);

/// Who leads.
pub struct Election {
    leases: Api<Lease>,
    identity: String,
    /// The Lease's resource version as it was last seen, and when it was first seen so.
    seen: Option<(Option<String>, Instant)>,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("Lease {NAME}")]
    Api(#[from] kube_client::Error),
    #[error("Lease {NAME}: no answer in {} s", CALL.as_secs())]
    Late,
}

impl Election {
    /// The election in `namespace`, in which this replica stands as `identity`.
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            identity,
            seen: None,
        }
    }

    /// Waits until this replica leads. Returns until when, unless it [keeps](Self::keep) the Lease.
    pub async fn win(&mut self) -> Instant {
        loop {
            let sent = Instant::now();
            match self.attempt(sent).await {
                Ok(true) => {
                    info!(identity = self.identity, "elected");
                    return sent + GIVE_UP;
                }
                Ok(false) => {}
                Err(error) => warn!("electing a leader: {}", Chain(&error)),
            }
            sleep(EVERY).await;
        }
    }

    /// Keeps the Lease. Returns when this replica must not lead any more.
    pub async fn keep(&mut self, mut until: Instant) {
        loop {
            sleep(EVERY).await;
            let sent = Instant::now();
            let attempt = tokio::select! {
                attempt = self.attempt(sent) => attempt,
                () = sleep_until(until) => break,
            };
            match attempt {
                Ok(true) => until = sent + GIVE_UP,
                Ok(false) => break,
                Err(error) => warn!("renewing: {}", Chain(&error)),
            }
            if Instant::now() >= until {
                break;
            }
        }
        warn!(identity = self.identity, "not the leader any more");
    }

    /// Gives the Lease up, so that another need not wait for its end.
    pub async fn release(&self) {
        let released = async {
            let Some(mut lease) = call(self.leases.get_opt(NAME)).await? else {
                return Ok(());
            };
            if holder(&lease) != Some(self.identity.as_str()) {
                return Ok(());
            }
            let mut spec = lease.spec.unwrap_or_default();
            spec.holder_identity = None;
            lease.spec = Some(spec);
            self.replace(&lease).await.map(drop)
        };
        let released: Result<(), LeaseError> = released.await;
        if let Err(error) = released {
            warn!("releasing the Lease: {}", Chain(&error));
        }
    }

    /// Takes or renews the Lease, if that may be done now.
    async fn attempt(&mut self, now: Instant) -> Result<bool, LeaseError> {
        let Some(found) = call(self.leases.get_opt(NAME)).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(NAME.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: None,
            };
            let lease = claim(lease, &self.identity, Timestamp::now());
            return was_first(call(self.leases.create(&PostParams::default(), &lease)).await);
        };
        let version = found.metadata.resource_version.clone();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => now,
        };
        self.seen = Some((version, since));
        if !is_free(&found, &self.identity, now - since) {
            return Ok(false);
        }
        let lease = claim(found, &self.identity, Timestamp::now());
        was_first(self.replace(&lease).await)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        call(self.leases.replace(NAME, &PostParams::default(), lease)).await
    }
}

/// The Lease is nobody's, this replica's, or was not renewed in time by the clock of whoever has
/// looked on for this long.
fn is_free(lease: &Lease, identity: &str, unchanged: Duration) -> bool {
    let held = holder(lease).is_some_and(|holder| !holder.is_empty() && holder != identity);
    !held || unchanged >= DURATION
}

/// The Lease as its new or old holder writes it.
fn claim(lease: Lease, identity: &str, now: Timestamp) -> Lease {
    let before = lease.spec.unwrap_or_default();
    let kept = before.holder_identity.as_deref() == Some(identity);
    let transitions = before.lease_transitions.unwrap_or(0);
    let spec = LeaseSpec {
        acquire_time: match kept {
            true => before.acquire_time,
            false => Some(MicroTime(now)),
        },
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        lease_transitions: Some(transitions.saturating_add(i32::from(!kept))),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    };
    Lease {
        metadata: lease.metadata,
        spec: Some(spec),
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

/// Somebody else was first where the API server says so.
fn was_first(written: Result<Lease, LeaseError>) -> Result<bool, LeaseError> {
    match written {
        Err(LeaseError::Api(kube_client::Error::Api(status))) if status.code == 409 => Ok(false),
        written => written.map(|_| true),
    }
}

async fn call<T>(answer: impl Future<Output = kube_client::Result<T>>) -> Result<T, LeaseError> {
    match timeout(CALL, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(LeaseError::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>) -> Lease {
        Lease {
            metadata: ObjectMeta::default(),
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_transitions: Some(3),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_lease_is_free_when_it_is_nobodys_or_ours_or_was_not_renewed() {
        let seconds = Duration::from_secs;
        let cases = [
            (None, 0, true),
            (Some(""), 0, true),
            (Some("me"), 0, true),
            (Some("other"), 0, false),
            (Some("other"), 14, false),
            (Some("other"), 15, true),
        ];
        for (holder, unchanged, expected) in cases {
            let free = is_free(&lease(holder), "me", seconds(unchanged));
            assert_eq!(free, expected, "{holder:?} {unchanged}");
        }
        assert!(is_free(&Lease::default(), "me", seconds(0)));
    }

    #[test]
    fn the_holder_stops_before_another_may_start() {
        // What was sent just before giving up has a call's time to arrive.
        assert!(GIVE_UP + CALL < DURATION);
        assert!(2 * EVERY + CALL < GIVE_UP);
    }

    #[test]
    fn a_claim_counts_transitions_and_not_renewals() {
        let now = Timestamp::from_second(7).unwrap();
        let taken = claim(lease(Some("other")), "me", now).spec.unwrap();
        assert_eq!(taken.holder_identity.as_deref(), Some("me"));
        assert_eq!(taken.lease_transitions, Some(4));
        assert_eq!(taken.acquire_time, Some(MicroTime(now)));
        let later = Timestamp::from_second(9).unwrap();
        let lease = Lease {
            metadata: ObjectMeta::default(),
            spec: Some(taken),
        };
        let renewed = claim(lease, "me", later).spec.unwrap();
        assert_eq!(renewed.lease_transitions, Some(4));
        assert_eq!(renewed.acquire_time, Some(MicroTime(now)));
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
        assert_eq!(renewed.lease_duration_seconds, Some(15));
    }
}
