//! Uninstallation: `kubectl delete -k deploy`, with machines running.
//!
//! ```text
//!  namespace, CRDs, roles: all are being deleted, in any order, within a second
//!    CRDs wait for their objects --> their finalizers --> pods, which end --> finalizers removed
//!    this program may still act: its account waits for `ferrovirt.io/uninstall`,
//!                                its role `ferrovirt-uninstall` is the CRDs', and goes with the last
//! ```
//!
//! No leader is needed for it: nothing is made any more, and what is removed twice is removed.

mod plan;

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube_client::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube_client::{Api, Client};
use kube_core::{PartialObjectMeta, Resource, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::watch_object;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use self::plan::{Left, plan, shorter};
use crate::api;
use crate::error::Chain;
use crate::pod;
use crate::reconcile::{vm, vmi};

/// The finalizer that keeps this program's account until the machines are gone.
pub const FINALIZER: &str = "ferrovirt.io/uninstall";
/// The role, and its binding, by which an uninstallation is finished.
pub const ROLE: &str = "ferrovirt-uninstall";
/// This program's account.
const ACCOUNT: &str = "virt-controller";
/// The definition whose deletion is an uninstallation: its objects are running machines.
const DEFINITION: &str = "virtualmachineinstances.kubevirt.io";
/// The definition that is deleted with it, sooner or later.
const MACHINES: &str = "virtualmachines.kubevirt.io";

/// The most that a machine has to shut down, in seconds. The account is good for 60 s after its
/// deletion (the leeway of Kubernetes' token validation).
const GRACE: u32 = 20;
/// When pods are not waited for any more: a node that is not there must not hold everything up.
const PATIENCE: Duration = Duration::from_secs(40);
/// When nothing is waited for any more: what cannot be let go of must not hold the namespace up.
const END: Duration = Duration::from_secs(45);
/// How often what is left is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How long one deletion may follow another that is part of the same uninstallation.
const SUSPENSE: Duration = Duration::from_secs(5);
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How long one call may take while this program ends.
const CALL: Duration = Duration::from_secs(5);

const MANAGER: &str = "virt-controller";

type Kube<T> = Result<T, kube_client::Error>;

/// Makes sure that an uninstallation can be finished; tried until it is done.
pub async fn prepare(client: &Client, namespace: &str) {
    while let Err(error) = try_prepare(client, namespace).await {
        warn!("preparing for uninstallation: {}", Chain(&error));
        sleep(RETRY).await;
    }
}

async fn try_prepare(client: &Client, namespace: &str) -> Kube<()> {
    let definitions: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    // Collected when none of them is left: whichever goes last has objects to be let go of.
    let owners = [
        owner(&definitions.get(DEFINITION).await?),
        owner(&definitions.get(MACHINES).await?),
    ];
    let metadata = ObjectMeta {
        name: Some(ROLE.to_owned()),
        owner_references: Some(owners.into()),
        ..ObjectMeta::default()
    };
    let role = ClusterRole {
        metadata: metadata.clone(),
        rules: Some(rules(namespace)),
        ..ClusterRole::default()
    };
    let binding = ClusterRoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: ROLE.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: ACCOUNT.to_owned(),
            namespace: Some(namespace.to_owned()),
            ..Subject::default()
        }]),
    };
    apply(client, &role).await?;
    apply(client, &binding).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let account = accounts.get(ACCOUNT).await?;
    let held = account.finalizers().iter().any(|name| name == FINALIZER);
    if held || account.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    let mut finalizers = account.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    set_finalizers(&accounts, &account, &finalizers).await
}

fn owner(definition: &PartialObjectMeta<CustomResourceDefinition>) -> OwnerReference {
    OwnerReference {
        api_version: CustomResourceDefinition::api_version(&()).into_owned(),
        kind: CustomResourceDefinition::kind(&()).into_owned(),
        name: definition.name_any(),
        uid: definition.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// What finishing takes: nothing can be made with it.
fn rules(namespace: &str) -> Vec<PolicyRule> {
    let rule = |group: &str, resources: &[&str], names: &[&str], verbs: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(vec![group.to_owned()]),
            resources: Some(owned(resources)),
            resource_names: (!names.is_empty()).then(|| owned(names)),
            verbs: owned(verbs),
            ..PolicyRule::default()
        }
    };
    let machines = ["virtualmachines", "virtualmachineinstances"];
    vec![
        rule("kubevirt.io", &machines, &[], &["list", "patch"]),
        rule("", &["pods"], &[], &["list", "delete"]),
        rule("", &["serviceaccounts"], &[ACCOUNT], &["get", "patch"]),
        rule("", &["namespaces"], &[namespace], &["get"]),
        rule(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &[DEFINITION, MACHINES],
            &["get", "list", "watch"],
        ),
    ]
}

/// Waits until an uninstallation begins.
pub async fn begun(client: &Client) {
    let definitions: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    let mut seen = pin!(watch_object(definitions, DEFINITION).default_backoff());
    while let Some(seen) = seen.next().await {
        match seen {
            Ok(Some(definition)) if definition.metadata.deletion_timestamp.is_some() => return,
            Ok(_) => {}
            Err(error) => warn!("watching {DEFINITION}: {}", Chain(&error)),
        }
    }
    // A watch does not end.
    std::future::pending().await
}

/// What this program is told to end for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Another takes its place.
    Replaced,
    /// Its namespace goes, and the machines do not; or not yet.
    Namespace,
    /// Everything goes.
    Uninstallation,
}

/// Finishes what SIGTERM may be part of: nothing, as a rule.
pub async fn terminated(client: &Client, namespace: &str) {
    let begun = Instant::now();
    loop {
        match ending(client, namespace).await {
            Ok(Ending::Replaced) => return,
            Ok(Ending::Uninstallation) => return finish(client, namespace).await,
            Ok(Ending::Namespace) if begun.elapsed() >= SUSPENSE => {
                withdraw(client).await;
                release(client, namespace).await;
                return;
            }
            Ok(Ending::Namespace) => {}
            Err(error) => {
                warn!("asking why to end: {}", Chain(&error));
                if begun.elapsed() >= SUSPENSE {
                    return;
                }
            }
        }
        sleep(EVERY).await;
    }
}

async fn ending(client: &Client, namespace: &str) -> Kube<Ending> {
    if is_going::<CustomResourceDefinition>(client, DEFINITION).await? {
        return Ok(Ending::Uninstallation);
    }
    Ok(match is_going::<Namespace>(client, namespace).await? {
        true => Ending::Namespace,
        false => Ending::Replaced,
    })
}

/// Ends all machines, and lets go of everything. Returns when nothing is left that this program
/// could do.
pub async fn finish(client: &Client, namespace: &str) {
    info!("uninstalling: ending all machines");
    let begun = Instant::now();
    loop {
        match step(client, begun.elapsed()).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(kube_client::Error::Api(status)) if status.code == 401 => {
                info!("uninstalled by another replica");
                return;
            }
            Err(error) => warn!("uninstalling: {}", Chain(&error)),
        }
        if begun.elapsed() >= END {
            warn!("uninstalling: not everything could be let go of");
            break;
        }
        sleep(EVERY).await;
    }
    // At once: with the last machine the definitions go, and with them the role.
    release(client, namespace).await;
    info!("uninstalled");
}

/// Does what can be done now. Returns whether nothing is left to do. What fails keeps nothing else
/// from being done, and is tried again.
async fn step(client: &Client, elapsed: Duration) -> Kube<bool> {
    let selector = format!("{}={}", pod::APP, pod::LAUNCHER);
    let pods: Api<Pod> = Api::all(client.clone());
    let left = Left {
        // Asked first: a definition that is going gets no more objects than are listed then.
        undefined: is_going::<CustomResourceDefinition>(client, MACHINES).await?,
        pods: soon(pods.list(&ListParams::default().labels(&selector)))
            .await?
            .items,
        vmis: list(client).await?,
        vms: list(client).await?,
    };
    for pod in &left.pods {
        if let Some(seconds) = shorter(pod) {
            let api = namespaced(client, pod);
            let params = DeleteParams::default().grace_period(seconds);
            // A pod that is left holds its instance.
            succeeds("deleting pod", pod, api.delete(&pod.name_any(), &params)).await;
        }
    }
    let plan = plan(&left, elapsed);
    let mut free = true;
    for vmi in plan.vmis {
        let api = namespaced(client, vmi);
        let removal = remove_finalizer(&api, vmi, vmi::FINALIZER);
        free &= succeeds("letting go of instance", vmi, removal).await;
    }
    for vm in plan.vms {
        let api = namespaced(client, vm);
        let removal = remove_finalizer(&api, vm, vm::FINALIZER);
        free &= succeeds("letting go of machine", vm, removal).await;
    }
    // One that was made just now is seen the next time, as long as its definition is there.
    Ok(plan.last && free)
}

/// Waits for the answer. Returns whether it is done, and says why where it is not.
async fn succeeds<T>(
    what: &str,
    object: &impl ResourceExt,
    answer: impl Future<Output = Kube<T>>,
) -> bool {
    match done(soon(answer).await.map(drop)) {
        Ok(()) => true,
        // It was marked as deleted in between.
        Err(kube_client::Error::Api(status)) if status.code == 409 => false,
        Err(error) => {
            let namespace = object.namespace().unwrap_or_default();
            let name = object.name_any();
            warn!("{what} {namespace}/{name}: {}", Chain(&error));
            false
        }
    }
}

/// Has the API server hand on no more calls. One that nobody answers for would keep every
/// namespace from going, as what is in it could not be told.
async fn withdraw(client: &Client) {
    let services: Api<APIService> = Api::all(client.clone());
    for name in api::service_names() {
        let params = DeleteParams::default();
        let deleted = soon(services.delete(&name, &params)).await;
        if let Err(error) = done(deleted.map(drop)) {
            warn!("deleting APIService {name}: {}", Chain(&error));
        }
    }
}

/// Lets this program's account go, if that is being deleted, or will be in a moment.
async fn release(client: &Client, namespace: &str) {
    let begun = Instant::now();
    loop {
        match try_release(client, namespace).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => warn!(
                "letting go of ServiceAccount {namespace}/{ACCOUNT}: {}",
                Chain(&error)
            ),
        }
        if begun.elapsed() >= SUSPENSE {
            return;
        }
        sleep(EVERY).await;
    }
}

/// Returns whether the account is let go of.
async fn try_release(client: &Client, namespace: &str) -> Kube<bool> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let Some(account) = soon(accounts.get_opt(ACCOUNT)).await? else {
        return Ok(true);
    };
    // A namespace may delete its accounts after its pods, and this is one's last act.
    let going = account.meta().deletion_timestamp.is_some()
        || is_going::<Namespace>(client, namespace).await?;
    if going {
        soon(remove_finalizer(&accounts, &account, FINALIZER)).await?;
    }
    Ok(going)
}

/// The object is being deleted, or gone.
async fn is_going<K>(client: &Client, name: &str) -> Kube<bool>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    let object = soon(api.get_opt(name)).await?;
    Ok(object.is_none_or(|object| object.metadata.deletion_timestamp.is_some()))
}

/// The objects of a kind; none where the kind is gone.
async fn list<K>(client: &Client) -> Kube<Vec<PartialObjectMeta<K>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    match soon(api.list(&ListParams::default())).await {
        Ok(list) => Ok(list.items),
        Err(kube_client::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn namespaced<K>(client: &Client, object: &K) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
}

async fn remove_finalizer<K>(api: &Api<K>, object: &K, finalizer: &str) -> Kube<()>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    if !object.finalizers().iter().any(|name| name == finalizer) {
        return Ok(());
    }
    let left = object.finalizers().iter().filter(|name| *name != finalizer);
    let left: Vec<_> = left.cloned().collect();
    done(set_finalizers(api, object, &left).await)
}

async fn set_finalizers<K>(api: &Api<K>, object: &K, finalizers: &[String]) -> Kube<()>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let patch = json!({"metadata": {
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers,
    }});
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(&object.name_any(), &params, &Patch::Merge(patch))
        .await
        .map(drop)
}

async fn apply<K>(client: &Client, object: &K) -> Kube<()>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let params = PatchParams::apply(MANAGER).force();
    api.patch(&object.name_any(), &params, &Patch::Apply(object))
        .await
        .map(drop)
}

/// Waits for the answer, but not for ever: the time that is looked at between calls runs out.
async fn soon<T>(answer: impl Future<Output = Kube<T>>) -> Kube<T> {
    let late = |elapsed| Err(kube_client::Error::Service(Box::new(elapsed)));
    timeout(CALL, answer).await.unwrap_or_else(late)
}

/// What is gone already is done.
fn done(answer: Kube<()>) -> Kube<()> {
    match answer {
        Err(kube_client::Error::Api(status)) if status.code == 404 => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use kube_client::Config;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_never_answers_does_not_keep_this_program_from_ending() {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let config = Config::new(url.parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let begun = Instant::now();
        let ends = async {
            terminated(&client, "ferrovirt").await;
            finish(&client, "ferrovirt").await;
            withdraw(&client).await;
        };
        timeout(Duration::from_secs(300), ends).await.unwrap();
        assert!(begun.elapsed() >= SUSPENSE + END);
    }

    #[test]
    fn there_is_time_for_what_is_waited_for() {
        // The account is good for a minute; the namespace may have gone first.
        let pods = Duration::from_secs(u64::from(GRACE));
        assert!(pods + 2 * EVERY < PATIENCE);
        assert!(PATIENCE + 2 * EVERY < END);
        assert!(SUSPENSE + END + SUSPENSE < Duration::from_secs(60));
    }

    #[test]
    fn nothing_can_be_made_by_the_role() {
        for rule in rules("ferrovirt") {
            let makes = rule
                .verbs
                .iter()
                .any(|verb| verb == "create" || verb == "*");
            assert!(!makes, "{rule:?}");
        }
    }
}
