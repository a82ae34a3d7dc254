//! What users ask of a VM of this node, carried to its launcher.
//!
//! Every call has a deadline, as launchers may hang, and an error of one line, as they may lie. A
//! guest's agent may take longer than a hypervisor.

use std::time::Duration;

use launcher_api::{
    FreezeRequest, GetGuestInfoRequest, GuestInfo, PauseRequest, ResetRequest, ShutdownRequest,
    SoftRebootRequest, UnfreezeRequest, UnpauseRequest,
};
use tokio::time::timeout;
use tonic::{Code, Response};

use crate::launchers::{LauncherClient, Launchers};
use crate::status::line;

/// How long a launcher may take.
const CALL: Duration = Duration::from_secs(10);

/// How long a guest's agent may take; freezing writes back what the guest has in memory.
const AGENT: Duration = Duration::from_secs(60);

/// The longest refusal, in characters.
const REFUSAL: usize = 250;

/// Something to do with a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop its vCPUs.
    Pause,
    /// Let its vCPUs go on.
    Unpause,
    /// Ask the guest to power itself off, and power it off when this many seconds are over; the
    /// VMI's own grace period where none is given.
    Shutdown(Option<u32>),
    /// Ask the guest to reboot itself.
    SoftReboot,
    /// Press the reset button.
    Reset,
    /// Make the guest's file systems consistent; thawed by itself after so many seconds, 0 for
    /// never.
    Freeze(u32),
    /// Thaw them.
    Unfreeze,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// No launcher of that VMI answers on this node.
    #[error("virtualmachineinstance {namespace}/{name} does not run on this node")]
    NotHere {
        /// The VMI's namespace.
        namespace: String,
        /// The VMI's name.
        name: String,
    },
    /// It cannot be done as the VM is.
    #[error("{0}")]
    Refused(String),
    /// The launcher does not know how.
    #[error("the launcher of this virtualmachineinstance cannot do that: {0}")]
    Unsupported(String),
    /// The launcher, or the guest's agent, took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// Another failure.
    #[error("the launcher failed: {0}")]
    Failed(String),
}

/// Does something with a VM.
///
/// # Errors
/// [`ActionError`]; nothing has been done then, but where no answer came.
pub async fn act(
    launchers: &Launchers,
    namespace: &str,
    name: &str,
    action: Action,
) -> Result<(), ActionError> {
    let mut client = client(launchers, namespace, name)?;
    match action {
        Action::Pause => done(CALL, client.pause(PauseRequest {})).await.map(drop),
        Action::Unpause => done(CALL, client.unpause(UnpauseRequest {}))
            .await
            .map(drop),
        Action::Shutdown(grace_seconds) => {
            let request = ShutdownRequest { grace_seconds };
            done(CALL, client.shutdown(request)).await.map(drop)
        }
        Action::SoftReboot => {
            let request = SoftRebootRequest {};
            done(AGENT, client.soft_reboot(request)).await.map(drop)
        }
        Action::Reset => done(CALL, client.reset(ResetRequest {})).await.map(drop),
        Action::Freeze(unfreeze_timeout_seconds) => {
            let request = FreezeRequest {
                unfreeze_timeout_seconds,
            };
            done(AGENT, client.freeze(request)).await.map(drop)
        }
        Action::Unfreeze => done(AGENT, client.unfreeze(UnfreezeRequest {}))
            .await
            .map(drop),
    }
}

/// What a VM's guest tells of itself, through its agent. The guest's word, unchecked.
///
/// # Errors
/// [`ActionError`], [`Refused`](ActionError::Refused) where no agent is connected.
pub async fn guest_info(
    launchers: &Launchers,
    namespace: &str,
    name: &str,
) -> Result<GuestInfo, ActionError> {
    let mut client = client(launchers, namespace, name)?;
    done(AGENT, client.get_guest_info(GetGuestInfoRequest {})).await
}

fn client(
    launchers: &Launchers,
    namespace: &str,
    name: &str,
) -> Result<LauncherClient, ActionError> {
    let launcher = launchers.get(namespace, name);
    let launcher = launcher.ok_or_else(|| ActionError::NotHere {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })?;
    Ok(launcher.client)
}

async fn done<T>(
    patience: Duration,
    call: impl Future<Output = Result<Response<T>, tonic::Status>>,
) -> Result<T, ActionError> {
    let answer = timeout(patience, call).await;
    let answer = answer.map_err(|_| ActionError::Silent(patience))?;
    answer.map(Response::into_inner).map_err(|status| {
        let said = line(status.message(), REFUSAL).unwrap_or_else(|| "it said no more".into());
        match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument => ActionError::Refused(said),
            Code::Unimplemented => ActionError::Unsupported(said),
            _ => ActionError::Failed(said),
        }
    })
}
