//! Performing what was decided, write by write.

mod calls;
mod error;

use crds::{VirtualMachine, VirtualMachineInstance, VirtualMachineStatus};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube_client::api::ListParams;
use kube_client::{Api, Client};
use kube_core::{PartialObjectMeta, Resource, ResourceExt};
use kube_runtime::events::{self, Recorder};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{debug, info};

use self::calls::{apply_status, call, create, delete, merge, version};
pub(super) use self::error::PerformError;
use self::error::{CREATING_POD, CREATING_VMI, TELLING, TIMEOUT};
use super::cache::Wrote;
use super::world::Written;
use crate::api::Handlers;
use crate::error::Chain;
use crate::pod;
use crate::reconcile::{Event, EventType, Launcher, vm, vmi};

/// The field manager of everything that is applied.
const MANAGER: &str = "virt-controller";

const DELETING_POD: &str = "deleting the pod";
const CONFIRMING: &str = "looking for pods of the instance";

/// What became of a write.
enum Answer {
    /// There is nothing to say of it.
    Nothing,
    /// The object as it is now.
    Written(Written),
    /// It is to be told, when there is time.
    Event(Event),
    /// The guest is to be told, however long that takes.
    Guest(Untold),
}

/// A guest that is to shut down, and was not told yet.
#[derive(Debug)]
pub(super) struct Untold {
    vmi: Box<VirtualMachineInstance>,
    seconds: u32,
}

/// How performing a decision went.
#[derive(Debug)]
pub(super) struct Performed {
    /// What the writes were answered with.
    pub(super) written: Vec<Written>,
    /// What there is to tell.
    pub(super) events: Vec<(Event, ObjectReference)>,
    /// Whom [`Performer::shut_down`] has to tell before all is done.
    pub(super) guest: Option<Untold>,
    /// Whether all were performed.
    pub(super) result: Result<(), PerformError>,
}

/// What writes are performed with.
#[derive(Clone)]
pub(super) struct Performer {
    client: Client,
    handlers: Handlers,
    recorder: Recorder,
}

impl Performer {
    /// Writes by `client` and tells `handlers`, as the replica named `instance`.
    pub(super) fn new(client: Client, handlers: Handlers, instance: &str) -> Self {
        let reporter = events::Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            handlers,
        }
    }

    /// Performs the writes about a machine, up to the first that fails.
    pub(super) async fn perform_vm(
        &self,
        vm: &VirtualMachine,
        writes: Vec<vm::Write>,
    ) -> Performed {
        let mut performed = Performed::new();
        for write in writes {
            let answer = self.about_vm(vm, write).await;
            if !performed.note(answer, vm) {
                break;
            }
        }
        performed
    }

    /// Performs the writes about an instance that names these claims, up to the first that fails.
    pub(super) async fn perform_vmi(
        &self,
        vmi: &VirtualMachineInstance,
        context: &pod::Context,
        writes: Vec<vmi::Write>,
    ) -> Performed {
        let mut performed = Performed::new();
        for write in writes {
            let answer = self.about_vmi(vmi, context, write).await;
            if !performed.note(answer, vmi) {
                break;
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
        let told = self.recorder.publish(&event, &about);
        if let Err(error) = call("telling an event", told).await {
            debug!("{}", Chain(&error));
        }
    }

    /// Has a guest told to shut down. Its launcher, which may be in its hands, can take its time to
    /// answer: nothing else may wait for that.
    pub(super) async fn shut_down(&self, guest: &Untold) -> Result<(), PerformError> {
        let told = self.handlers.shut_down(&guest.vmi, guest.seconds);
        timeout(TIMEOUT, told)
            .await
            .map_err(|_elapsed| PerformError::Late { what: TELLING })?
            .map_err(PerformError::Untold)
    }

    async fn about_vm(
        &self,
        vm: &VirtualMachine,
        write: vm::Write,
    ) -> Result<Answer, PerformError> {
        let namespace = vm.namespace().unwrap_or_default();
        let name = vm.name_any();
        let vms: Api<VirtualMachine> = Api::namespaced(self.client.clone(), &namespace);
        let vmis: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), &namespace);
        let changed = |vm| Answer::Written(Written::Vm(Box::new(vm)));
        let instance = |vmi, wrote| Answer::Written(Written::Vmi(Box::new(vmi), wrote));
        Ok(match write {
            vm::Write::CreateVmi(vmi) => {
                info!(%namespace, %name, "creating the instance");
                let made = match create(&vmis, &vmi, CREATING_VMI).await? {
                    Some(vmi) => vmi,
                    None => call("reading the instance", vmis.get(&name)).await?,
                };
                instance(made, Wrote::New)
            }
            vm::Write::DeleteVmi { uid } => {
                info!(%namespace, %name, "deleting the instance");
                let left = delete(&vmis, &name, uid, "deleting the instance").await?;
                left.map_or(Answer::Nothing, |vmi| instance(vmi, Wrote::Known))
            }
            vm::Write::SetAlways => {
                info!(%namespace, %name, "setting the run strategy to Always");
                let spec = match vm.spec.running {
                    Some(_) => json!({"running": true}),
                    None => json!({"runStrategy": "Always"}),
                };
                let patch = json!({"metadata": version(vm), "spec": spec});
                changed(merge(&vms, &name, &patch, "setting the run strategy").await?)
            }
            vm::Write::ApplyStatus(status) => {
                let status = vm_status(vm, &status);
                changed(apply_status(&vms, vm, status, "applying the machine's status").await?)
            }
            vm::Write::RemoveFinalizer => {
                let patch = without_finalizer(vm, vm::FINALIZER);
                changed(merge(&vms, &name, &patch, "removing the machine's finalizer").await?)
            }
            vm::Write::Event(event) => Answer::Event(event),
        })
    }

    async fn about_vmi(
        &self,
        vmi: &VirtualMachineInstance,
        context: &pod::Context,
        write: vmi::Write,
    ) -> Result<Answer, PerformError> {
        let namespace = vmi.namespace().unwrap_or_default();
        let name = vmi.name_any();
        let vmis: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), &namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let changed = |vmi| Answer::Written(Written::Vmi(Box::new(vmi), Wrote::Known));
        let launcher = |pod, wrote| Answer::Written(Written::Pod(Box::new(pod), wrote));
        Ok(match write {
            vmi::Write::CreatePod => {
                let pod = pod::render(vmi, context)?;
                let pod_name = pod.name_any();
                info!(%namespace, %name, pod = %pod_name, "creating the pod");
                let pod = match create(&pods, &pod, CREATING_POD).await? {
                    Some(pod) => pod,
                    None => call("reading the pod", pods.get(&pod_name)).await?,
                };
                let pod = Launcher::new(&pod);
                if !is_of(&pod, vmi) {
                    return Err(PerformError::Taken { name: pod_name });
                }
                launcher(pod, Wrote::New)
            }
            vmi::Write::DeletePod { name: pod, uid } => {
                info!(%namespace, %name, %pod, "deleting the pod");
                let left = delete(&pods, &pod, uid, DELETING_POD).await?;
                let known = |pod| launcher(Launcher::new(&pod), Wrote::Known);
                left.map_or(Answer::Nothing, known)
            }
            vmi::Write::ShutDown { seconds } => {
                debug!(%namespace, %name, seconds, "shutting the guest down");
                let vmi = Box::new(vmi.clone());
                Answer::Guest(Untold { vmi, seconds })
            }
            vmi::Write::ApplyStatus(status) => {
                let status = json!(status);
                changed(apply_status(&vmis, vmi, status, "applying the instance's status").await?)
            }
            vmi::Write::ConfirmNoPod => {
                self.confirm_no_pod(vmi, &pods).await?;
                Answer::Nothing
            }
            vmi::Write::RemoveFinalizer => {
                let patch = without_finalizer(vmi, vmi::FINALIZER);
                changed(merge(&vmis, &name, &patch, "removing the instance's finalizer").await?)
            }
            vmi::Write::Event(event) => Answer::Event(event),
        })
    }

    /// Asks the API server itself whether the instance has pods left: by their label, and by name,
    /// for who takes its labels away hides a pod that runs from the watch and from this list.
    async fn confirm_no_pod(
        &self,
        vmi: &VirtualMachineInstance,
        pods: &Api<Pod>,
    ) -> Result<(), PerformError> {
        let name = pod::name(vmi);
        let named = call(CONFIRMING, pods.get_opt(&name)).await?;
        let named = named.map(|pod| Launcher::new(&pod));
        if let Some(pod) = named.filter(|pod| is_of(pod, vmi)) {
            // The watch may not know of it.
            if vmi.metadata.deletion_timestamp.is_some() && !pod.deleting {
                let namespace = pod.namespace;
                info!(%namespace, name = %vmi.name_any(), pod = %name, "deleting the pod");
                delete(pods, &name, pod.uid, DELETING_POD).await?;
            }
            return Err(PerformError::PodLeft { name });
        }
        let namespace = vmi.namespace().unwrap_or_default();
        let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(self.client.clone(), &namespace);
        let selector = format!("{}={}", pod::CREATED_BY, vmi.uid().unwrap_or_default());
        let params = ListParams::default().labels(&selector).limit(1);
        let left = call(CONFIRMING, pods.list(&params)).await?;
        match left.items.first() {
            None => Ok(()),
            Some(pod) => Err(PerformError::PodLeft {
                name: pod.name_any(),
            }),
        }
    }
}

impl Performed {
    fn new() -> Self {
        Self {
            written: Vec::new(),
            events: Vec::new(),
            guest: None,
            result: Ok(()),
        }
    }

    /// Notes what became of a write about this object. Returns whether to go on.
    fn note(
        &mut self,
        answer: Result<Answer, PerformError>,
        about: &impl Resource<DynamicType = ()>,
    ) -> bool {
        match answer {
            Ok(Answer::Nothing) => {}
            Ok(Answer::Written(written)) => self.written.push(written),
            Ok(Answer::Event(event)) => self.events.push((event, about.object_ref(&()))),
            Ok(Answer::Guest(guest)) => self.guest = Some(guest),
            Err(error) => self.result = Err(error),
        }
        self.result.is_ok()
    }
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

fn without_finalizer(object: &impl ResourceExt, finalizer: &str) -> Value {
    let finalizers = object.finalizers().iter();
    let left: Vec<_> = finalizers.filter(|name| *name != finalizer).collect();
    let mut metadata = version(object);
    metadata["finalizers"] = json!(left);
    json!({"metadata": metadata})
}

/// The instance controls the pod, whatever its labels say.
fn is_of(pod: &Launcher, vmi: &VirtualMachineInstance) -> bool {
    Some(&pod.vmi_uid) == vmi.metadata.uid.as_ref()
}

/// An event's note is at most a kilobyte.
fn cut(mut message: String) -> String {
    const MOST: usize = 1000;
    let end = message.floor_char_boundary(MOST);
    message.truncate(end);
    message
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use kube_client::Config;
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;

    fn machine(status: Value) -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": "vm", "resourceVersion": "7", "finalizers": ["a", "b"]},
            "spec": {"template": {"spec": {"domain": {"devices": {}}}}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn requests_that_are_done_are_taken_away() {
        let asked = json!({"stateChangeRequests": [{"action": "Start"}]});
        let none = VirtualMachineStatus::default();
        // They are somebody else's: to leave them out would leave them there.
        let applied = vm_status(&machine(asked), &none);
        assert_eq!(applied, json!({"stateChangeRequests": []}));
        assert_eq!(vm_status(&machine(json!({})), &none), json!({}));
    }

    #[test]
    fn a_finalizer_is_removed_from_what_was_seen() {
        let patch = without_finalizer(&machine(json!({})), "a");
        let expected = json!({"metadata": {"resourceVersion": "7", "finalizers": ["b"]}});
        assert_eq!(patch, expected);
    }

    /// One whose API server is at this address.
    fn performer(address: SocketAddr) -> Performer {
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let handlers = Handlers {
            client: client.clone(),
            namespace: "ferrovirt".into(),
            tls: watch::channel(None).1,
        };
        Performer::new(client, handlers, "this")
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_nobody_takes_is_not_told_for_ever() {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let performer = performer(silent.local_addr().unwrap());
        let about = machine(json!({})).object_ref(&());
        let event = Event {
            type_: EventType::Normal,
            reason: "Reason".to_owned(),
            message: String::new(),
        };
        let told = performer.tell(event, about);
        timeout(2 * TIMEOUT, told).await.unwrap();
    }

    #[tokio::test]
    async fn a_guest_is_told_apart_from_what_is_written() {
        let performer = performer((Ipv4Addr::LOCALHOST, 1).into());
        let vmi: VirtualMachineInstance = serde_json::from_value(json!({
            "metadata": {"name": "vm"},
            "spec": {"domain": {"devices": {}}},
        }))
        .unwrap();
        let context = pod::Context::default();
        let writes = vec![vmi::Write::ShutDown { seconds: 7 }];
        let performed = performer.perform_vmi(&vmi, &context, writes).await;
        assert!(performed.result.is_ok(), "{performed:?}");
        let guest = performed.guest.unwrap();
        assert_eq!((&*guest.vmi, guest.seconds), (&vmi, 7));
        // It has no node.
        let told = performer.shut_down(&guest).await;
        assert!(matches!(told, Err(PerformError::Untold(_))), "{told:?}");
    }

    #[test]
    fn a_pod_is_the_instances_that_controls_it() {
        let vmi: VirtualMachineInstance = serde_json::from_value(json!({
            "metadata": {"name": "vm", "uid": "this"},
            "spec": {"domain": {"devices": {}}},
        }))
        .unwrap();
        let owner = |uid, controller| {
            json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
                "name": "vm", "uid": uid, "controller": controller}])
        };
        let cases = [
            (owner("this", true), json!({}), true),
            (owner("this", true), json!({pod::CREATED_BY: "other"}), true),
            (owner("this", false), json!({}), false),
            (
                owner("other", true),
                json!({pod::CREATED_BY: "this"}),
                false,
            ),
            (json!([]), json!({pod::CREATED_BY: "this"}), false),
        ];
        for (owners, labels, expected) in cases {
            let case = format!("{owners} {labels}");
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": pod::name(&vmi), "ownerReferences": owners, "labels": labels},
            }))
            .unwrap();
            assert_eq!(is_of(&Launcher::new(&pod), &vmi), expected, "{case}");
        }
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(cut("short".to_owned()), "short");
        let long = cut("é".repeat(600));
        assert_eq!(long.len(), 1000);
        assert_eq!(cut(format!("x{}", "é".repeat(600))).len(), 999);
    }
}
