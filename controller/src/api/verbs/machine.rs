//! Starting and stopping machines: one write each, of what [`plan`] decides. A guest that is given
//! less time than its instance has is told here, afterwards. Where it is given more, its instance is
//! beforehand, whose reconciler tells the guest.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use crds::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_client::Api;
use kube_client::api::{self, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Named;
use super::options::{self, DryRun};
use super::plan::{Patch, Verb, longer_grace, plan};
use crate::api::{ApiContext, ApiError, Handlers, Object};
use crate::reconcile::vmi::{is_final, phase};

/// The field manager of what is written in users' names.
const MANAGER: &str = "virt-controller-api";

/// How often a machine that changes all the time is looked at.
const ATTEMPTS: usize = 5;

/// How long somebody is looked for who can tell a guest to hurry.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause before that is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Does what the body of `verb` says.
pub(super) async fn act<T: Default + DeserializeOwned>(
    verb: fn(T) -> (Verb, DryRun),
    State(context): State<ApiContext>,
    Path(named): Path<Named>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let (verb, dry_run) = verb(options::read(&body)?);
    // Who leaves cuts nothing short: an instance that was given more time is to stop, too.
    tokio::spawn(perform(context, named, verb, dry_run))
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
}

/// Does what is asked of the machine.
async fn perform(
    context: ApiContext,
    Named { namespace, name }: Named,
    verb: Verb,
    dry_run: DryRun,
) -> Result<StatusCode, ApiError> {
    let vms: Api<VirtualMachine> = Api::namespaced(context.client.clone(), &namespace);
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(context.client.clone(), &namespace);
    // Who has been given more time is told by its reconciler.
    let mut prolonged = false;
    for _ in 0..ATTEMPTS {
        let vm = vms.get_opt(&name).await?;
        let vm = vm.ok_or_else(|| Object::vm(&name).not_found())?;
        let vmi = vmis.get_opt(&name).await?;
        let conflict = |why: String| Object::vm(&name).conflict(&why);
        let plan = plan(verb, &vm, vmi.as_ref()).map_err(conflict)?;
        let longer = vmi.as_ref().map(|vmi| longer_grace(&plan, vmi));
        let longer = longer.transpose().map_err(conflict)?.flatten();
        let written = async {
            if let (Some(vmi), Some(grace)) = (&vmi, longer) {
                // What is refused leaves the instance as it is.
                write(&vms, &vm, plan.patch.clone(), DryRun(true)).await?;
                prolong(&vmis, vmi, grace, dry_run).await?;
                prolonged = true;
            }
            write(&vms, &vm, plan.patch, dry_run).await
        };
        match written.await {
            // It changed meanwhile, or is gone: what is to be done may have changed, too.
            Err(kube_client::Error::Api(status)) if matches!(status.code, 404 | 409) => continue,
            written => written?,
        }
        if let (Some(vmi), Some(grace), false, DryRun(false)) =
            (vmi, plan.shutdown, prolonged, dry_run)
        {
            hurry(&context.handlers, &vmis, &vmi, grace).await?;
        }
        return Ok(StatusCode::ACCEPTED);
    }
    let why = "the object has been modified; please apply your changes to the latest version and \
               try again";
    Err(Object::vm(&name).conflict(why))
}

/// Writes the patch, if the machine is still the one that it was made for.
async fn write(
    vms: &Api<VirtualMachine>,
    vm: &VirtualMachine,
    patch: Patch,
    dry_run: DryRun,
) -> Result<(), kube_client::Error> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let params = params(dry_run);
    let seen = |patch| seen(&vm.metadata, patch);
    match patch {
        Patch::Whole(patch) => vms.patch(name, &params, &seen(patch)).await,
        Patch::Status(patch) => vms.patch_status(name, &params, &seen(patch)).await,
    }
    .map(drop)
}

/// Gives the instance a longer grace period, if it is still as it was seen. Before the machine is
/// asked for anything: the deletion that follows has to find it.
async fn prolong(
    vmis: &Api<VirtualMachineInstance>,
    vmi: &VirtualMachineInstance,
    grace: u32,
    dry_run: DryRun,
) -> Result<(), kube_client::Error> {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"spec": {"terminationGracePeriodSeconds": grace}});
    let patch = seen(&vmi.metadata, patch);
    vmis.patch(name, &params(dry_run), &patch).await.map(drop)
}

fn params(DryRun(dry_run): DryRun) -> PatchParams {
    PatchParams {
        dry_run,
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// A patch of the object as it was seen, and of no other.
fn seen(metadata: &ObjectMeta, mut patch: Value) -> api::Patch<Value> {
    patch["metadata"] = json!({"resourceVersion": metadata.resource_version});
    api::Patch::Merge(patch)
}

/// Tells the guest of an instance that is to stop to do so now, within this time.
///
/// # Errors
/// 503 where nobody can be told for a while, and the instance lives; what the handler says.
async fn hurry(
    handlers: &Handlers,
    vmis: &Api<VirtualMachineInstance>,
    vmi: &VirtualMachineInstance,
    grace: u32,
) -> Result<(), ApiError> {
    let begun = Instant::now();
    loop {
        let Err(error) = handlers.shut_down(vmi, grace).await else {
            return Ok(());
        };
        let message = format!("it stops, but within its own grace period: {error}");
        // A guest that has just ended cannot be told, and a handler that has just started knows
        // none yet: the instance says which.
        if !matches!(
            error.code(),
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE
        ) {
            return Err(ApiError::new(error.code(), message));
        }
        let name = vmi.metadata.name.as_deref().unwrap_or_default();
        if is_over(vmi, vmis.get_opt(name).await?.as_ref()) {
            return Ok(());
        }
        if begun.elapsed() >= PATIENCE {
            return Err(ApiError::unavailable(format!("{message}; try again")));
        }
        sleep(PAUSE).await;
    }
}

/// The instance has ended, as what has its name `now` tells.
fn is_over(vmi: &VirtualMachineInstance, now: Option<&VirtualMachineInstance>) -> bool {
    now.is_none_or(|now| now.metadata.uid != vmi.metadata.uid || is_final(phase(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_over_when_its_name_is_no_longer_that_of_one_that_lives() {
        let instance = |uid: &str, phase: &str| -> VirtualMachineInstance {
            serde_json::from_value(json!({
                "metadata": {"name": "one", "uid": uid},
                "spec": {"domain": {"devices": {}}},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        let vmi = instance("7", "Running");
        let cases = [
            (None, true),
            (Some(("8", "Running")), true),
            (Some(("7", "Succeeded")), true),
            (Some(("7", "Failed")), true),
            (Some(("7", "Running")), false),
            (Some(("7", "Unknown")), false),
        ];
        for (now, expected) in cases {
            let found = now.map(|(uid, phase)| instance(uid, phase));
            assert_eq!(is_over(&vmi, found.as_ref()), expected, "{now:?}");
        }
    }
}
