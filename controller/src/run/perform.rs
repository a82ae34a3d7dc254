//! Performing what was decided, write by write.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crds::{VirtualMachine, VirtualMachineInstance, VirtualMachineStatus};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim, Pod};
use kube_client::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube_client::{Api, Client};
use kube_core::{PartialObjectMeta, Resource, ResourceExt};
use kube_runtime::events::{self, Recorder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{debug, info};

use super::watch::strip;
use super::world::Written;
use crate::config::Settings;
use crate::error::Chain;
use crate::pod;
use crate::reconcile::{Event, EventType, Failure, Launcher, Write, vm, vmi};

/// The field manager of everything that is applied.
const MANAGER: &str = "virt-controller";

/// How long one write may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What a decision was made about.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// A machine.
    Vm(Arc<VirtualMachine>),
    /// An instance, and the claims that it names.
    Vmi(Arc<VirtualMachineInstance>, Vec<PersistentVolumeClaim>),
}

/// Why a write was not performed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PerformError {
    /// The API server refused it, or there was no answer.
    #[error("{what}")]
    Api {
        /// The write.
        what: &'static str,
        /// What it said.
        #[source]
        source: kube_client::Error,
    },
    /// There was no answer in time.
    #[error("{what}: no answer in {} s", TIMEOUT.as_secs())]
    Late {
        /// The write.
        what: &'static str,
    },
    /// The instance has no pod.
    #[error("rendering the pod")]
    Render(#[from] pod::RenderError),
    /// Another's pod has the name of the instance's.
    #[error("a pod named {name:?} exists that is not this instance's; delete it")]
    Taken {
        /// The pod's name.
        name: String,
    },
    /// A pod of the instance is left.
    #[error("pod {name:?} of the instance is left")]
    PodLeft {
        /// The pod's name.
        name: String,
    },
    /// What was decided is about another kind.
    #[error("{write:?} is not about this kind")]
    Misplaced {
        /// The write.
        write: Box<Write>,
    },
}

impl PerformError {
    /// What to tell the user, where trying again will not help before somebody does something.
    pub(super) fn refusal(&self) -> Option<Failure> {
        let message = match self {
            Self::Api {
                source: kube_client::Error::Api(status),
                what: "creating the instance" | "creating the pod",
            } if matches!(status.code, 400 | 403 | 405 | 413 | 422) => status.message.clone(),
            Self::Render(error) => error.to_string(),
            Self::Taken { .. } => self.to_string(),
            _ => return None,
        };
        Some(Failure { message })
    }

    /// The object has changed since the decision, or is gone: there will be another.
    pub(super) fn is_stale(&self) -> bool {
        match self {
            Self::Api {
                source: kube_client::Error::Api(status),
                ..
            } => matches!(status.code, 404 | 409),
            _ => false,
        }
    }
}

/// How performing a decision went.
#[derive(Debug)]
pub(super) struct Performed {
    /// What the writes were answered with.
    pub(super) written: Vec<Written>,
    /// What there is to tell.
    pub(super) events: Vec<(Event, ObjectReference)>,
    /// Whether all were performed.
    pub(super) result: Result<(), PerformError>,
}

/// What writes are performed with.
#[derive(Clone)]
pub(super) struct Performer {
    client: Client,
    recorder: Recorder,
    launcher_image: Arc<str>,
}

impl Performer {
    /// Writes by `client`, as the replica named `instance`.
    pub(super) fn new(client: Client, instance: &str, launcher_image: Arc<str>) -> Self {
        let reporter = events::Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            launcher_image,
        }
    }

    /// Performs the writes, up to the first that fails.
    pub(super) async fn perform(
        &self,
        subject: &Subject,
        writes: Vec<Write>,
        settings: &Settings,
    ) -> Performed {
        let mut performed = Performed {
            written: Vec::new(),
            events: Vec::new(),
            result: Ok(()),
        };
        for write in writes {
            if let Write::Event(event) = write {
                performed.events.push((event, subject.reference()));
                continue;
            }
            let written = match subject {
                Subject::Vm(vm) => self.about_vm(vm, write).await,
                Subject::Vmi(vmi, claims) => self.about_vmi(vmi, claims, settings, write).await,
            };
            match written {
                Ok(written) => performed.written.extend(written),
                Err(error) => {
                    performed.result = Err(error);
                    break;
                }
            }
        }
        performed
    }

    /// Tells what happened. That it could not be told is no reason to do anything else.
    pub(super) async fn tell(&self, event: Event, about: ObjectReference) {
        let event = events::Event {
            type_: match event.type_ {
                EventType::Normal => events::EventType::Normal,
                EventType::Warning => events::EventType::Warning,
            },
            action: event.reason.clone(),
            reason: event.reason,
            note: Some(cut(event.message)),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            debug!("telling an event: {}", Chain(&error));
        }
    }

    async fn about_vm(
        &self,
        vm: &VirtualMachine,
        write: Write,
    ) -> Result<Option<Written>, PerformError> {
        let namespace = vm.namespace().unwrap_or_default();
        let name = vm.name_any();
        let vms: Api<VirtualMachine> = Api::namespaced(self.client.clone(), &namespace);
        let vmis: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), &namespace);
        let vm_written = |vm| Some(Written::Vm(Box::new(vm)));
        let vmi_written = |vmi| Some(Written::Vmi(Box::new(vmi)));
        Ok(match write {
            Write::CreateVmi(vmi) => {
                info!(%namespace, %name, "creating the instance");
                let what = "creating the instance";
                vmi_written(match create(&vmis, &vmi, what).await? {
                    Some(vmi) => vmi,
                    None => call("reading the instance", vmis.get(&name)).await?,
                })
            }
            Write::DeleteVmi { uid } => {
                info!(%namespace, %name, "deleting the instance");
                delete(&vmis, &name, uid, "deleting the instance")
                    .await?
                    .and_then(vmi_written)
            }
            Write::SetAlways => {
                info!(%namespace, %name, "setting the run strategy to Always");
                let spec = match vm.spec.running {
                    Some(_) => json!({"running": true}),
                    None => json!({"runStrategy": "Always"}),
                };
                let patch = json!({"metadata": version(vm), "spec": spec});
                vm_written(merge(&vms, &name, &patch, "setting the run strategy").await?)
            }
            Write::RemoveVmFinalizer => {
                let patch = without_finalizer(vm, vm::FINALIZER);
                vm_written(merge(&vms, &name, &patch, "removing the machine's finalizer").await?)
            }
            Write::ApplyVmStatus(status) => {
                let status = vm_status(vm, &status);
                vm_written(apply_status(&vms, vm, status, "applying the machine's status").await?)
            }
            write => return Err(misplaced(write)),
        })
    }

    async fn about_vmi(
        &self,
        vmi: &VirtualMachineInstance,
        claims: &[PersistentVolumeClaim],
        settings: &Settings,
        write: Write,
    ) -> Result<Option<Written>, PerformError> {
        let namespace = vmi.namespace().unwrap_or_default();
        let name = vmi.name_any();
        let vmis: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), &namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let vmi_written = |vmi| Some(Written::Vmi(Box::new(vmi)));
        Ok(match write {
            Write::CreatePod => {
                let context = pod::Context {
                    launcher_image: self.launcher_image.to_string(),
                    settings: settings.clone(),
                    claims: claims.to_vec(),
                };
                let pod = pod::render(vmi, &context)?;
                let pod_name = pod.name_any();
                info!(%namespace, %name, pod = %pod_name, "creating the pod");
                let pod = match create(&pods, &pod, "creating the pod").await? {
                    Some(pod) => pod,
                    None => call("reading the pod", pods.get(&pod_name)).await?,
                };
                let pod = Launcher::new(&pod);
                if Some(&pod.vmi_uid) != vmi.metadata.uid.as_ref() {
                    return Err(PerformError::Taken { name: pod_name });
                }
                Some(Written::Pod(Box::new(pod)))
            }
            Write::DeletePod { name: pod, uid } => {
                info!(%namespace, %name, %pod, "deleting the pod");
                let deleted = delete(&pods, &pod, uid, "deleting the pod").await?;
                deleted.map(|pod| Written::Pod(Box::new(Launcher::new(&pod))))
            }
            Write::ApplyVmiStatus(status) => {
                let status = json!(status);
                vmi_written(
                    apply_status(&vmis, vmi, status, "applying the instance's status").await?,
                )
            }
            Write::ConfirmNoPod => {
                let uid = vmi.uid().unwrap_or_default();
                self.confirm_no_pod(&namespace, &uid).await?;
                None
            }
            Write::RemoveVmiFinalizer => {
                let patch = without_finalizer(vmi, vmi::FINALIZER);
                vmi_written(merge(&vmis, &name, &patch, "removing the instance's finalizer").await?)
            }
            write => return Err(misplaced(write)),
        })
    }

    /// Asks the API server itself whether the instance has pods left.
    async fn confirm_no_pod(&self, namespace: &str, uid: &str) -> Result<(), PerformError> {
        let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(self.client.clone(), namespace);
        let selector = format!("{}={uid}", pod::CREATED_BY);
        let params = ListParams::default().labels(&selector).limit(1);
        let left = call("looking for pods of the instance", pods.list(&params)).await?;
        match left.items.first() {
            None => Ok(()),
            Some(pod) => Err(PerformError::PodLeft {
                name: pod.name_any(),
            }),
        }
    }
}

impl Subject {
    fn reference(&self) -> ObjectReference {
        match self {
            Self::Vm(vm) => vm.object_ref(&()),
            Self::Vmi(vmi, _) => vmi.object_ref(&()),
        }
    }
}

fn misplaced(write: Write) -> PerformError {
    PerformError::Misplaced {
        write: Box::new(write),
    }
}

/// Waits for the API server's answer.
async fn call<T>(
    what: &'static str,
    answer: impl Future<Output = kube_client::Result<T>>,
) -> Result<T, PerformError> {
    match timeout(TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|source| PerformError::Api { what, source }),
        Err(_elapsed) => Err(PerformError::Late { what }),
    }
}

/// Makes the object. None where one of its name exists.
async fn create<K>(api: &Api<K>, object: &K, what: &'static str) -> Result<Option<K>, PerformError>
where
    K: Resource + Clone + Serialize + DeserializeOwned + Debug,
{
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match call(what, api.create(&params, object)).await {
        Ok(mut made) => {
            strip(&mut made);
            Ok(Some(made))
        }
        Err(error) if error.is_stale() && !is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes the object, if it still has this uid. None where it is gone, at once or already.
async fn delete<K>(
    api: &Api<K>,
    name: &str,
    uid: String,
    what: &'static str,
) -> Result<Option<K>, PerformError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let preconditions = Preconditions {
        uid: Some(uid),
        resource_version: None,
    };
    let params = DeleteParams::background().preconditions(preconditions);
    match call(what, api.delete(name, &params)).await {
        Ok(answer) => Ok(answer.left().map(|mut object| {
            strip(&mut object);
            object
        })),
        Err(error) if error.is_stale() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn merge<K>(
    api: &Api<K>,
    name: &str,
    patch: &Value,
    what: &'static str,
) -> Result<K, PerformError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let mut object = call(what, api.patch(name, &params, &Patch::Merge(patch))).await?;
    strip(&mut object);
    Ok(object)
}

/// Applies the status to the object as it was when that was decided.
async fn apply_status<K>(
    api: &Api<K>,
    object: &K,
    status: Value,
    what: &'static str,
) -> Result<K, PerformError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let name = object.name_any();
    let mut metadata = version(object);
    metadata["name"] = json!(name);
    let applied = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    let applied = Patch::Apply(&applied);
    let mut object = call(what, api.patch_status(&name, &params, &applied)).await?;
    strip(&mut object);
    Ok(object)
}

/// The machine's status as it is applied. Requests are somebody else's: where there were any, what
/// is left of them is said, even where that is none.
fn vm_status(vm: &VirtualMachine, status: &VirtualMachineStatus) -> Value {
    let mut applied = json!(status);
    let before = vm.status.as_ref();
    if before.is_some_and(|before| !before.state_change_requests.is_empty()) {
        applied["stateChangeRequests"] = json!(status.state_change_requests);
    }
    applied
}

/// What makes a patch fail where the object has changed since.
fn version(object: &impl ResourceExt) -> Value {
    json!({"resourceVersion": object.resource_version()})
}

fn without_finalizer(object: &impl ResourceExt, finalizer: &str) -> Value {
    let finalizers = object.finalizers().iter();
    let left: Vec<_> = finalizers.filter(|name| *name != finalizer).collect();
    let mut metadata = version(object);
    metadata["finalizers"] = json!(left);
    json!({"metadata": metadata})
}

fn is_missing(error: &PerformError) -> bool {
    matches!(error, PerformError::Api { source: kube_client::Error::Api(status), .. } if status.code == 404)
}

/// An event's note is at most a kilobyte.
fn cut(mut message: String) -> String {
    const MOST: usize = 1000;
    let end = message.floor_char_boundary(MOST);
    message.truncate(end);
    message
}
