//! What users ask of a VM of this node, carried to its launcher.
//!
//! Every call has a deadline, as launchers may hang, and an error of one line, as they may lie. A
//! guest's agent may take longer than a hypervisor.

use std::time::Duration;

use kube_client::ResourceExt;
use launcher_api::{
    ConsoleBytes, FreezeRequest, GetGuestInfoRequest, GuestInfo, PauseRequest, Phase, ResetRequest,
    ScreenshotBytes, ScreenshotRequest, ShutdownRequest, SoftRebootRequest, UnfreezeRequest,
    UnpauseRequest, VncBytes,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tonic::{Code, Response, Streaming};

use crate::launchers::{Launcher, Launchers, Stream};
use crate::status::line;

/// How long a launcher may take.
const CALL: Duration = Duration::from_secs(10);

/// How long a guest's agent may take; freezing writes back what the guest has in memory.
const AGENT: Duration = Duration::from_secs(60);

/// The longest refusal, in characters.
const REFUSAL: usize = 250;

/// The VMI that something is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: what was meant for a VMI is not done to another that has taken its name since.
    pub uid: String,
}

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
    /// There is nothing to stream from, at least not now.
    #[error("{0}")]
    NotReady(String),
    /// Somebody else has it, or the launcher is gone for a moment.
    #[error("{0}")]
    Unavailable(String),
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
    instance: &Instance,
    action: Action,
) -> Result<(), ActionError> {
    let mut client = launcher(launchers, instance)?.client;
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
    instance: &Instance,
) -> Result<GuestInfo, ActionError> {
    let mut client = launcher(launchers, instance)?.client;
    done(AGENT, client.get_guest_info(GetGuestInfoRequest {})).await
}

/// Opens the guest's serial console, and ends the session that is open there.
///
/// # Errors
/// [`ActionError`], [`NotReady`](ActionError::NotReady) where the VM has no console or does not run.
pub async fn console(
    launchers: &Launchers,
    instance: &Instance,
    typed: impl futures::Stream<Item = ConsoleBytes> + Send + 'static,
) -> Result<Opened<ConsoleBytes>, ActionError> {
    let mut stream = stream(launchers, instance).await?;
    let printed = streamed(stream.client.console(typed)).await?;
    Ok(Opened::new(printed, stream))
}

/// Opens the VM's screen, as VNC has it. The session that is open there ends, unless the first of
/// `acted` says otherwise.
///
/// # Errors
/// [`ActionError`]: [`NotReady`](ActionError::NotReady) where the VM has no screen or does not run,
/// [`Unavailable`](ActionError::Unavailable) where a session is open and to be preserved.
pub async fn vnc(
    launchers: &Launchers,
    instance: &Instance,
    acted: impl futures::Stream<Item = VncBytes> + Send + 'static,
) -> Result<Opened<VncBytes>, ActionError> {
    let mut stream = stream(launchers, instance).await?;
    let shown = streamed(stream.client.vnc(acted)).await?;
    Ok(Opened::new(shown, stream))
}

/// The VM's screen, as a PNG. `move_cursor` wakes it first.
///
/// # Errors
/// [`ActionError`], [`NotReady`](ActionError::NotReady) where the VM has no screen or does not run.
pub async fn screenshot(
    launchers: &Launchers,
    instance: &Instance,
    move_cursor: bool,
) -> Result<Opened<ScreenshotBytes>, ActionError> {
    let mut stream = stream(launchers, instance).await?;
    let request = ScreenshotRequest { move_cursor };
    let picture = streamed(stream.client.screenshot(request)).await?;
    Ok(Opened::new(picture, stream))
}

/// A stream of a launcher's, and its place among those that the launcher may have.
#[derive(Debug)]
pub struct Opened<T> {
    messages: Streaming<T>,
    _place: OwnedSemaphorePermit,
}

impl<T> Opened<T> {
    fn new(messages: Streaming<T>, stream: Stream) -> Self {
        Self {
            messages,
            _place: stream.place,
        }
    }

    /// What the launcher sends next; `None` where it has ended the stream.
    ///
    /// # Errors
    /// The launcher's, or that it is gone.
    pub async fn next(&mut self) -> Result<Option<T>, tonic::Status> {
        self.messages.message().await
    }
}

/// A connection for a stream of a VM that runs.
async fn stream(launchers: &Launchers, instance: &Instance) -> Result<Stream, ActionError> {
    let launcher = launcher(launchers, instance)?;
    let stream = within(CALL, launcher.stream()).await?;
    let missing = match stream.status.phase() {
        Phase::Running | Phase::Paused | Phase::ShuttingDown => return Ok(stream),
        Phase::Unspecified | Phase::Starting => "does not run yet",
        Phase::Succeeded | Phase::Failed => "has ended",
    };
    let Instance {
        namespace, name, ..
    } = instance;
    let message = format!("virtualmachineinstance {namespace}/{name} {missing}");
    Err(ActionError::NotReady(message))
}

fn launcher(launchers: &Launchers, instance: &Instance) -> Result<Launcher, ActionError> {
    let Instance {
        namespace,
        name,
        uid,
    } = instance;
    launchers
        .get(namespace, name)
        .filter(|launcher| launcher.vmi().uid().unwrap_or_default() == *uid)
        .ok_or_else(|| ActionError::NotHere {
            namespace: namespace.clone(),
            name: name.clone(),
        })
}

/// The beginning of a stream. What a VM cannot stream now, clients ask for again.
async fn streamed<T>(
    call: impl Future<Output = Result<Response<T>, tonic::Status>>,
) -> Result<T, ActionError> {
    done(CALL, call).await.map_err(|error| match error {
        ActionError::Refused(said) => ActionError::NotReady(said),
        other => other,
    })
}

async fn done<T>(
    patience: Duration,
    call: impl Future<Output = Result<Response<T>, tonic::Status>>,
) -> Result<T, ActionError> {
    within(patience, call).await.map(Response::into_inner)
}

async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, ActionError> {
    let answer = timeout(patience, call).await;
    let answer = answer.map_err(|_| ActionError::Silent(patience))?;
    answer.map_err(|status| {
        let said = line(status.message(), REFUSAL).unwrap_or_else(|| "it said no more".into());
        match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument => ActionError::Refused(said),
            Code::Unavailable | Code::ResourceExhausted => ActionError::Unavailable(said),
            Code::Unimplemented => ActionError::Unsupported(said),
            _ => ActionError::Failed(said),
        }
    })
}
