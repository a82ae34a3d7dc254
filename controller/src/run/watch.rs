//! Watching what decisions are made from.

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::time::Duration;

use crds::{VirtualMachine, VirtualMachineInstance};
use futures::stream::{SelectAll, StreamExt, select_all};
use futures::{Stream, future};
use k8s_openapi::api::core::v1::{Node as K8sNode, PersistentVolumeClaim, Pod};
use kube_client::{Api, Client};
use kube_core::error_boundary::DeserializeGuard;
use kube_core::{Resource, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::utils::Backoff;
use kube_runtime::watcher::{Config, Event, watcher};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::world::{Node, Watched};
use crate::error::Chain;
use crate::pod;
use crate::reconcile::Launcher;

/// How many objects are asked for at once: the answer is the most memory that a list takes.
const PAGE: u32 = 100;

/// What `kubectl apply` keeps for itself: the object over again.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Watches everything, for ever.
pub(super) fn watch(client: &Client) -> SelectAll<Pin<Box<dyn Stream<Item = Watched> + Send>>> {
    let launchers = format!("{}={}", pod::APP, pod::LAUNCHER);
    select_all([
        guarded::<VirtualMachine>(client).map(Watched::Vm).boxed(),
        guarded::<VirtualMachineInstance>(client)
            .map(Watched::Vmi)
            .boxed(),
        events::<Pod>(client, Config::default().labels(&launchers))
            .map(|event| Watched::Pod(map(event, |pod| Launcher::new(&pod))))
            .boxed(),
        events::<PersistentVolumeClaim>(client, Config::default())
            .map(|event| Watched::Claim(map(event, reduced)))
            .boxed(),
        events::<K8sNode>(client, Config::default())
            .map(|event| Watched::Node(map(event, |node| Node::new(&node))))
            .boxed(),
    ])
}

/// Drops of an object what nobody here reads, and what most of its memory would be.
pub(super) fn strip(object: &mut impl ResourceExt) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// The objects of a kind of ours. One that cannot be read is left out: it must not keep the others
/// from being looked after.
fn guarded<K>(client: &Client) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    events::<DeserializeGuard<K>>(client, Config::default()).filter_map(|event| {
        let read = |object: DeserializeGuard<K>| match object.0 {
            Ok(mut object) => {
                strip(&mut object);
                Some(object)
            }
            Err(error) => {
                let namespace = error.metadata.namespace.as_deref().unwrap_or_default();
                let name = error.metadata.name.as_deref().unwrap_or_default();
                let kind = K::kind(&());
                warn!("{kind} {namespace}/{name} cannot be read: {error}");
                None
            }
        };
        future::ready(match event {
            Event::Apply(object) => read(object).map(Event::Apply),
            Event::Delete(object) => read(object).map(Event::Delete),
            Event::InitApply(object) => read(object).map(Event::InitApply),
            Event::Init => Some(Event::Init),
            Event::InitDone => Some(Event::InitDone),
        })
    })
}

fn events<K>(client: &Client, config: Config) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = config.page_size(PAGE);
    watcher(Api::<K>::all(client.clone()), config)
        .backoff(Waits::default())
        .filter_map(|event| {
            let event = event.inspect_err(|error| {
                let plural = K::plural(&());
                warn!("watching {plural}: {}", Chain(error));
            });
            future::ready(event.ok())
        })
}

fn map<A, B>(event: Event<A>, f: impl FnOnce(A) -> B) -> Event<B> {
    match event {
        Event::Apply(object) => Event::Apply(f(object)),
        Event::Delete(object) => Event::Delete(f(object)),
        Event::InitApply(object) => Event::InitApply(f(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// A claim, without what nobody here reads.
fn reduced(mut claim: PersistentVolumeClaim) -> PersistentVolumeClaim {
    let metadata = &mut claim.metadata;
    metadata.managed_fields = None;
    metadata.annotations = None;
    metadata.labels = None;
    if let Some(status) = &mut claim.status {
        status.conditions = None;
    }
    claim
}

/// The waits after a watch has failed: never long, for an API server that is back must find us
/// there, and at random, so that not everybody comes at once.
#[derive(Debug, Default)]
pub(super) struct Waits(u32);

impl Waits {
    const FIRST: Duration = Duration::from_millis(250);
    const MOST: Duration = Duration::from_secs(2);
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let whole = Self::FIRST.saturating_mul(1 << self.0).min(Self::MOST);
        self.0 = (self.0 + 1).min(8);
        let random = RandomState::new().hash_one(()) % 1000;
        Some(whole / 2 + whole * u32::try_from(random).unwrap_or(0) / 2000)
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        self.0 = 0;
    }
}
