//! The launchers of this node: found, followed, and told of to the API server.
//!
//! ```text
//! API server ──watch──▶ World ──▶ Seen (VMI, pod) ──┐
//!                                                   ├─▶ status::decide ─▶ writer ──▶ API server
//! launcher.sock ──▶ link ──▶ Observed (Report, …) ──┘                 └─▶ events
//!                     └────▶ Launchers: who answers now, for actions and metrics
//! ```
//!
//! Each VMI has a task of its own, whose two halves know only the newest of what the other has to
//! tell: what a launcher sends is bounded in memory, and no launcher delays another. That this
//! process ends touches no VM; when it is back, it finds everything again by the API server and the
//! kubelet's directory.

mod bucket;
mod link;
mod registry;
mod socket;
#[cfg(test)]
pub(crate) mod tests;
mod world;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crds::VirtualMachineInstance;
use futures::StreamExt;
use futures::future::ready;
use k8s_openapi::api::core::v1::Pod;
use kube_client::core::error_boundary::DeserializeGuard;
use kube_client::{Api, Client, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::utils::Backoff;
use kube_runtime::watcher::{self, watcher};
use tokio::sync::watch;

pub use registry::{Launcher, Launchers, Stream};
pub use socket::Client as LauncherClient;

use crate::events::{self, Events};
use crate::status::{Observed, PodFacts};
use link::Link;
use socket::Place;
use world::{World, readable};

/// The label of launchers' pods.
const LAUNCHER_PODS: &str = "kubevirt.io=virt-launcher";

/// Where this handler is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// The kubelet's directory of pods, `/var/lib/kubelet/pods` on most nodes.
    pub pods: PathBuf,
}

/// A VMI of this node and its pod, as the API server told last.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    vmi: Arc<VirtualMachineInstance>,
    pod: Arc<PodFacts>,
}

impl Seen {
    /// The VMI's namespace and name.
    fn name(&self) -> registry::Name {
        (
            self.vmi.namespace().unwrap_or_default(),
            self.vmi.name_any(),
        )
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.vmi, &other.vmi) && Arc::ptr_eq(&self.pod, &other.pod)
    }
}

/// What every VMI's task works with.
struct Context {
    client: Client,
    pods: PathBuf,
    launchers: Launchers,
    events: Events,
}

/// Follows the launchers of this node for ever; `launchers` has those that answer.
pub async fn follow(client: Client, config: Config, launchers: Launchers) {
    let node = &config.node;
    let vmis = watcher(
        Api::<DeserializeGuard<VirtualMachineInstance>>::all(client.clone()),
        watcher::Config::default().fields(&format!("status.nodeName={node}")),
    );
    let pods = watcher(
        Api::<Pod>::all(client.clone()),
        watcher::Config::default()
            .fields(&format!("spec.nodeName={node}"))
            .labels(LAUNCHER_PODS),
    );
    let mut vmis = vmis
        .backoff(Pause::default())
        .filter_map(|told| ready(told.map(readable).transpose()))
        .boxed();
    let mut pods = pods.backoff(Pause::default()).boxed();
    let mut world = World::new(node);
    let (events, waiting) = Events::new();
    let reporting = events::report(client.clone(), node, waiting);
    let mut tasks = Tasks::new(Arc::new(Context {
        client,
        pods: config.pods.clone(),
        launchers,
        events,
    }));
    let watching = async {
        loop {
            tokio::select! {
                Some(told) = vmis.next() => match told {
                    Ok(event) => world.vmi(event),
                    Err(error) => warn("VirtualMachineInstances", &error),
                },
                Some(told) = pods.next() => match told {
                    Ok(event) => world.pod(event),
                    Err(error) => warn("pods", &error),
                },
                else => return,
            }
            if let Some(followed) = world.followed() {
                tasks.update(followed);
            }
        }
    };
    tokio::join!(watching, reporting);
}

fn warn(what: &str, error: &watcher::Error) {
    tracing::warn!("cannot watch this node's {what}; trying again: {error}");
}

/// A task for each VMI.
struct Tasks {
    context: Arc<Context>,
    /// By the VMI's uid.
    running: HashMap<String, Task>,
}

struct Task {
    seen: watch::Sender<Seen>,
}

impl Tasks {
    fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            running: HashMap::new(),
        }
    }

    /// Starts a task for each VMI that has none, tells the others what is new, and ends those
    /// whose VMI is not to be followed any more.
    fn update(&mut self, mut followed: HashMap<String, Seen>) {
        // A task ends when nobody has anything to tell it any more.
        self.running.retain(|uid, task| {
            let same_pod = |now: &Seen| now.pod.uid == task.seen.borrow().pod.uid;
            match followed.remove(uid) {
                Some(now) if same_pod(&now) => {
                    task.seen.send_if_modified(|seen| {
                        let new = !seen.is_same(&now);
                        *seen = now;
                        new
                    });
                    true
                }
                Some(now) => {
                    followed.insert(uid.clone(), now);
                    false
                }
                None => false,
            }
        });
        for (uid, seen) in followed {
            let (seen, receiver) = watch::channel(seen);
            tokio::spawn(follow_one(self.context.clone(), receiver));
            self.running.insert(uid, Task { seen });
        }
    }
}

/// Follows one VMI until it has come to its end or is not this node's any more.
async fn follow_one(context: Arc<Context>, seen: watch::Receiver<Seen>) {
    let (observed, observations) = watch::channel(Observed::default());
    let link = Link {
        place: Place::new(&context.pods, &seen.borrow().pod.uid),
        launchers: &context.launchers,
        events: &context.events,
        seen: &seen,
        observed: &observed,
    };
    tokio::select! {
        () = link.keep() => {}
        () = writer::keep(&context, seen.clone(), observations) => {}
    }
}

/// The pause before a watch is tried again: short, as a status is to be right within 5 s of the
/// API server's return.
#[derive(Debug, Default)]
struct Pause {
    tries: u32,
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        /// The first pause and the longest.
        const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

        let pause = PAUSES.0.saturating_mul(2_u32.saturating_pow(self.tries));
        self.tries = self.tries.saturating_add(1);
        Some(pause.min(PAUSES.1))
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {
        self.tries = 0;
    }
}
