//! What is asked of a running guest, through the handler of its node.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use crds::{
    VirtualMachineInstance, VirtualMachineInstanceCondition, VirtualMachineInstancePhase as Phase,
};
use kube_client::Api;
use serde_json::{Value, json};

use super::Named;
use super::options::{self, DryRun, Freeze, Nothing, Pause};
use crate::api::handler::Handler;
use crate::api::{ApiContext, ApiError, Object};
use crate::reconcile::vmi::phase;

/// Something to do with a running guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Pause,
    Unpause,
    SoftReboot,
    Reset,
    Freeze,
    Unfreeze,
}

impl Action {
    /// Its name: the subresource's, and that of the handler's call.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::SoftReboot => "softreboot",
            Self::Reset => "reset",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
        }
    }

    /// What the handler is told, and whether it is told.
    fn options(self, body: &[u8]) -> Result<(Value, DryRun), ApiError> {
        match self {
            Self::Pause | Self::Unpause => {
                let Pause { dry_run } = options::read(body)?;
                Ok((json!({}), dry_run))
            }
            Self::Freeze => {
                let seconds = options::read::<Freeze>(body)?.seconds();
                Ok((json!({"unfreezeTimeoutSeconds": seconds}), DryRun(false)))
            }
            Self::SoftReboot | Self::Reset | Self::Unfreeze => {
                let Nothing {} = options::read(body)?;
                Ok((json!({}), DryRun(false)))
            }
        }
    }

    /// Whether it can be asked of the instance. What only its launcher knows is not decided here:
    /// a condition may be behind.
    fn check(self, vmi: &VirtualMachineInstance, dry_run: DryRun) -> Result<(), ApiError> {
        let object = || Object::vmi(vmi.metadata.name.as_deref().unwrap_or_default());
        if phase(vmi) != Phase::Running {
            return Err(object().conflict("VMI is not running"));
        }
        // Its kubelet would take the guest's silence for death.
        if self == Self::Pause && vmi.spec.liveness_probe.is_some() {
            let why = "Pausing VMIs with LivenessProbe is currently not supported";
            return Err(object().forbidden(why));
        }
        let DryRun(dry_run) = dry_run;
        match (self, is_paused(vmi)) {
            (Self::Pause, true) if dry_run => Err(object().conflict("VMI is already paused")),
            (Self::Unpause, false) if dry_run => Err(object().conflict("VMI is not paused")),
            _ => Ok(()),
        }
    }
}

/// Something that a guest's agent tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    GuestOsInfo,
    UserList,
    FileSystemList,
}

impl Question {
    /// Its name: the subresource's, and that of the handler's call.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::GuestOsInfo => "guestosinfo",
            Self::UserList => "userlist",
            Self::FileSystemList => "filesystemlist",
        }
    }
}

/// Carries an action to the instance's launcher.
pub(super) async fn act(
    action: Action,
    State(context): State<ApiContext>,
    Path(named): Path<Named>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let (options, dry_run) = action.options(&body)?;
    let vmi = find(&context, &named).await?;
    action.check(&vmi, dry_run)?;
    if dry_run == DryRun(false) {
        let handler = Handler::of(&context.handlers, &vmi).await?;
        if let Err(error) = handler.put(action.name(), &options).await {
            return Err(unknown(&context, &named, &vmi, error).await);
        }
    }
    Ok(StatusCode::ACCEPTED)
}

/// Asks the instance's guest.
pub(super) async fn ask(
    question: Question,
    State(context): State<ApiContext>,
    Path(named): Path<Named>,
) -> Result<Response, ApiError> {
    let vmi = find(&context, &named).await?;
    if phase(&vmi) != Phase::Running {
        return Err(Object::vmi(&named.name).conflict("VMI is not running"));
    }
    let handler = Handler::of(&context.handlers, &vmi).await?;
    match handler.get(question.name()).await {
        Ok(answer) => Ok(answer),
        Err(error) => Err(unknown(&context, &named, &vmi, error).await),
    }
}

/// The instance.
///
/// # Errors
/// 404 where there is none, and what the API server says.
pub(in crate::api) async fn find(
    context: &ApiContext,
    Named { namespace, name }: &Named,
) -> Result<VirtualMachineInstance, ApiError> {
    let vmis: Api<VirtualMachineInstance> = Api::namespaced(context.client.clone(), namespace);
    let vmi = vmis.get_opt(name).await?;
    vmi.ok_or_else(|| Object::vmi(name).not_found())
}

/// Where the handler knows no such guest, the instance says why.
async fn unknown(
    context: &ApiContext,
    named: &Named,
    vmi: &VirtualMachineInstance,
    error: ApiError,
) -> ApiError {
    match error.code() {
        StatusCode::NOT_FOUND => match find(context, named).await {
            Ok(now) => not_told(vmi, &now),
            Err(error) => error,
        },
        _ => error,
    }
}

/// It has just ended, or the handler has just started.
fn not_told(vmi: &VirtualMachineInstance, now: &VirtualMachineInstance) -> ApiError {
    if now.metadata.uid == vmi.metadata.uid && phase(now) == Phase::Running {
        let why = "virt-handler on the VMI's node does not know its launcher yet: try again";
        return ApiError::unavailable(why);
    }
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    Object::vmi(name).conflict("VMI is not running")
}

fn is_paused(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.iter().flat_map(|status| &status.conditions);
    let paused = |condition: &VirtualMachineInstanceCondition| {
        condition.type_ == "Paused" && condition.status == "True"
    };
    conditions.into_iter().any(paused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(phase: &str, probe: bool, paused: bool) -> VirtualMachineInstance {
        let mut spec = json!({"domain": {"devices": {}}});
        if probe {
            spec["livenessProbe"] = json!({"tcpSocket": {"port": 22}});
        }
        let conditions = match paused {
            true => json!([{"type": "Paused", "status": "True"}]),
            false => json!([]),
        };
        serde_json::from_value(json!({
            "metadata": {"name": "one"},
            "spec": spec,
            "status": {"phase": phase, "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn what_can_be_asked_of_an_instance() {
        use Action::*;
        let all = [Pause, Unpause, SoftReboot, Reset, Freeze, Unfreeze];
        let checked = |action: Action, vmi: &VirtualMachineInstance, dry_run| {
            let checked = action.check(vmi, DryRun(dry_run));
            checked
                .err()
                .map(|error| (error.code().as_u16(), error.to_string()))
        };
        for phase in [
            "Pending",
            "Scheduling",
            "Scheduled",
            "Succeeded",
            "Failed",
            "Unknown",
        ] {
            for action in all {
                let (code, why) = checked(action, &instance(phase, false, false), false).unwrap();
                assert_eq!(code, 409, "{action:?} {phase}");
                assert!(why.ends_with("VMI is not running"), "{why}");
            }
        }
        for action in all {
            for paused in [true, false] {
                // The launcher knows better than the condition.
                let vmi = instance("Running", false, paused);
                assert_eq!(checked(action, &vmi, false), None, "{action:?} {paused}");
            }
            let code =
                checked(action, &instance("Running", true, false), false).map(|(code, _)| code);
            assert_eq!(code, (action == Pause).then_some(403), "{action:?}");
        }
        let cases = [
            (Pause, true, Some(409)),
            (Pause, false, None),
            (Unpause, false, Some(409)),
            (Unpause, true, None),
        ];
        for (action, paused, expected) in cases {
            let found = checked(action, &instance("Running", false, paused), true);
            assert_eq!(found.map(|(code, _)| code), expected, "{action:?} {paused}");
        }
    }

    #[test]
    fn a_guest_that_the_handler_does_not_know_has_ended_or_is_to_be_asked_again() {
        let other = |mut vmi: VirtualMachineInstance| {
            vmi.metadata.uid = Some("8".to_owned());
            vmi
        };
        let vmi = instance("Running", false, false);
        let cases = [
            (instance("Running", false, false), 503),
            (instance("Succeeded", false, false), 409),
            (other(instance("Running", false, false)), 409),
        ];
        for (now, code) in cases {
            let error = not_told(&vmi, &now);
            assert_eq!(error.code().as_u16(), code, "{now:?}");
        }
    }

    #[test]
    fn the_handler_is_told_what_its_calls_know() {
        let cases = [
            (Action::Pause, "{}", json!({}), false),
            (Action::Pause, r#"{"dryRun": ["All"]}"#, json!({}), true),
            (
                Action::Freeze,
                r#"{"unfreezeTimeout": "1m0s"}"#,
                json!({"unfreezeTimeoutSeconds": 60}),
                false,
            ),
            (Action::Reset, "", json!({}), false),
        ];
        for (action, body, told, dry_run) in cases {
            let found = action.options(body.as_bytes()).unwrap();
            assert_eq!(found, (told, DryRun(dry_run)), "{action:?} {body}");
        }
        assert!(Action::Reset.options(br#"{"dryRun": ["All"]}"#).is_err());
    }
}
