//! The leader's work: watch, decide, write.
//!
//! ```text
//!            watch            concerns             decide               perform
//! API server ----> World --------------> Queue ------------> writes ------------> API server
//!                    ^                     ^ '-- one at a time for each object      |
//!                    '---------------------'--------------- answers ----------------'
//! ```
//!
//! All of it is one task: dropping its future stops every write that has not been sent.

mod cache;
mod perform;
mod queue;
mod report;
mod settings;
#[cfg(test)]
mod tests;
mod watch;
mod world;

use std::convert::Infallible;
use std::mem::replace;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use k8s_openapi::jiff::Timestamp;
use kube_client::Client;
use tokio::sync::watch as channel;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use self::perform::{PerformError, Performed, Performer};
use self::queue::{Key, Kind, Outcome, Queue};
use crate::api::Handlers;
use crate::config::Settings;
use crate::error::Chain;
use crate::metrics::Metrics;
use crate::pod;
use crate::reconcile::{Decision, Failure, vm, vmi};

pub use self::report::report;
pub use self::settings::follow_settings;
pub use self::world::World;

/// How many objects are written about at once.
const CONCURRENT: usize = 16;

/// Far enough for a timer that nobody waits for.
const LONG: Duration = Duration::from_secs(3600);

/// What the leader works with.
pub struct Leader {
    /// The API server.
    pub client: Client,
    /// This replica's name.
    pub instance: String,
    /// The image of virt-launcher.
    pub launcher_image: String,
    /// How handlers are reached.
    pub handlers: Handlers,
    /// The cluster's settings.
    pub settings: channel::Receiver<Settings>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Told whether a node has a handler that is ready, once that is known.
    pub handler: channel::Sender<Option<bool>>,
}

/// A decision that is being performed, and what was found out.
struct Work {
    key: Key,
    requeue: Option<Duration>,
    /// It tells of a refusal: what was refused is tried again later.
    refused: bool,
    performed: Performed,
}

impl Leader {
    /// Watches, decides and writes, for ever. `world` is forgotten first: it may be old.
    pub async fn run(&self, world: &mut World) -> Infallible {
        world.clear();
        let mut watched = watch::watch(&self.client);
        let performer = &Performer::new(self.client.clone(), self.handlers.clone(), &self.instance);
        let mut queue = Queue::new(&self.metrics);
        let mut working: FuturesUnordered<BoxFuture<'_, Work>> = FuturesUnordered::new();
        let mut telling = FuturesUnordered::new();
        let mut guests = FuturesUnordered::new();
        let mut listed = false;
        loop {
            let now = Instant::now();
            if !listed && world.is_listed() {
                listed = true;
                info!("leading");
            }
            let handler = listed.then(|| world.nodes.any(|node| node.offers.handler));
            self.handler
                .send_if_modified(|told| replace(told, handler) != handler);
            let free = listed && working.len() < CONCURRENT;
            if free && let Some(key) = queue.pop(now) {
                match self.work(world, performer, key.clone(), None) {
                    Some(work) => working.push(work),
                    None => queue.done(key, Outcome::Done(None), now),
                }
                continue;
            }
            if working.is_empty() {
                world.settle();
            }
            let due = queue.next_due().filter(|_| free);
            tokio::select! {
                Some(change) = watched.next() => {
                    for key in world.watched(change, &self.metrics) {
                        queue.add(key, now);
                    }
                }
                Some(work) = working.next() => {
                    let Work { key, requeue, refused, performed } = work;
                    for (event, about) in performed.events {
                        telling.push(performer.tell(event, about));
                    }
                    for written in performed.written {
                        for key in world.written(written, &self.metrics) {
                            queue.add(key, now);
                        }
                    }
                    let failure = performed.result.as_ref().err().and_then(PerformError::refusal);
                    if let Err(error) = &performed.result {
                        log(&key, error);
                    }
                    let again = failure.and_then(|failure| {
                        self.work(world, performer, key.clone(), Some(failure))
                    });
                    match (again, performed.guest) {
                        (Some(work), _) => working.push(work),
                        (None, Some(guest)) => guests.push(async move {
                            let told = performer.shut_down(&guest).await;
                            (key, requeue, told)
                        }),
                        (None, None) => {
                            let outcome = outcome(&performed.result, refused, requeue);
                            queue.done(key, outcome, now);
                        }
                    }
                }
                Some((key, requeue, told)) = guests.next() => {
                    if let Err(error) = &told {
                        log(&key, error);
                    }
                    queue.done(key, outcome(&told, false, requeue), now);
                }
                Some(()) = telling.next() => {}
                () = sleep_until(due.unwrap_or(now + LONG)) => {}
            }
        }
    }

    /// Decides, and performs it. None where there is nothing of this name, or nothing to do.
    fn work<'a>(
        &self,
        world: &World,
        performer: &'a Performer,
        key: Key,
        failure: Option<Failure>,
    ) -> Option<BoxFuture<'a, Work>> {
        let now = whole_seconds(Timestamp::now());
        let refused = failure.is_some();
        match key.kind {
            Kind::Vm => {
                let snapshot = world.vm(&key, failure)?;
                let Decision { writes, requeue } = vm::decide(&snapshot, now);
                is_work(&writes, requeue, refused).then(|| {
                    let work = async move {
                        let performed = performer.perform_vm(&snapshot.vm, writes).await;
                        Work {
                            key,
                            requeue,
                            refused,
                            performed,
                        }
                    };
                    work.boxed()
                })
            }
            Kind::Vmi => {
                let snapshot = world.vmi(&key, failure)?;
                let Decision { writes, requeue } = vmi::decide(&snapshot, now);
                let context = pod::Context {
                    launcher_image: self.launcher_image.clone(),
                    settings: self.settings.borrow().clone(),
                    claims: world.claims_of(&snapshot.vmi),
                };
                is_work(&writes, requeue, refused).then(|| {
                    let work = async move {
                        let performed =
                            performer.perform_vmi(&snapshot.vmi, &context, writes).await;
                        Work {
                            key,
                            requeue,
                            refused,
                            performed,
                        }
                    };
                    work.boxed()
                })
            }
        }
    }
}

/// There is something to write, or to remember.
fn is_work<W>(writes: &[W], requeue: Option<Duration>, refused: bool) -> bool {
    !writes.is_empty() || requeue.is_some() || refused
}

fn outcome(result: &Result<(), PerformError>, refused: bool, requeue: Option<Duration>) -> Outcome {
    match result {
        Ok(()) if refused => Outcome::Refused,
        Ok(()) => Outcome::Done(requeue),
        Err(_) => Outcome::Retry,
    }
}

fn log(key: &Key, error: &PerformError) {
    let Key {
        namespace, name, ..
    } = key;
    let kind = match key.kind {
        Kind::Vm => "machine",
        Kind::Vmi => "instance",
    };
    let passing = error.is_stale() || matches!(error, PerformError::PodLeft { .. });
    let error = Chain(error);
    match passing {
        true => debug!("{kind} {namespace}/{name}: {error}"),
        false => warn!("{kind} {namespace}/{name}: {error}"),
    }
}

/// Times in objects have whole seconds.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
