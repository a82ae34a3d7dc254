//! Machines of `virt-launcher run` on this machine.
//!
//! ```text
//! name ─▶ sandbox ─┬─ launcher.sock ──────▶ calls, console, screen: `relay`
//!                  └─ the pod's addresses ─▶ ports: `port`
//! ```
//!
//! Such a machine lives as long as its `run`: there is none that could be started.

mod follow;
mod port;
mod relay;
mod show;

use std::path::Path;
use std::time::Duration;

use futures::channel::mpsc::{self, Receiver};
use launcher_api::guest::{self, line};
use launcher_api::launcher_client::LauncherClient;
use launcher_api::local::{self, LocalVm};
use launcher_api::{
    ConsoleBytes, GetDomainXmlRequest, GetGuestInfoRequest, GetStatusRequest, PauseRequest, Phase,
    ResetRequest, ScreenshotRequest, ShutdownRequest, SoftRebootRequest, Status, UnpauseRequest,
    VNC_IN_USE, VncBytes,
};
use serde_json::Value;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Response, Streaming};

use crate::stream::{ByteStream, Stream};
use crate::target::{Action, CallError, Kind, Name, OpenError, Question};
use relay::Relay;
pub use show::{HEADER, Shown, list};

/// How long a launcher may take to answer.
const CALL: Duration = Duration::from_secs(10);

/// How long a guest's agent may take.
const AGENT: Duration = Duration::from_secs(60);

/// The longest message of a launcher, in characters.
const MESSAGE: usize = 250;

/// The largest screenshot, in bytes: 4096 by 4096 pixels that do not compress.
const PICTURE: usize = 64 << 20;

type Client = LauncherClient<Channel>;

/// A machine on this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    name: Name,
    vm: LocalVm,
}

/// The machine `name` below `root`.
///
/// # Errors
/// [`CallError::NotFound`], or [`CallError::Local`] where nobody may look.
pub fn find(root: &Path, name: Name) -> Result<Machine, CallError> {
    match local::find(root, &name.namespace, &name.name)? {
        Some(vm) => Ok(Machine { name, vm }),
        None => {
            let message = format!(
                "no {} runs on this machine; `virtctl ps` lists those that do, `virtctl run FILE` \
                 starts one",
                named(&name)
            );
            Err(CallError::NotFound { name, message })
        }
    }
}

/// How a machine is called here, where an instance is no other object than its machine.
fn named(name: &Name) -> String {
    let kind = Kind::Vm;
    format!("{kind} {}/{}", name.namespace, name.name)
}

impl Machine {
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What its launcher says of it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn status(&self) -> Result<Status, CallError> {
        self.call(CALL, async |client| {
            client.get_status(GetStatusRequest {}).await
        })
        .await
    }

    /// Whether `run` still looks after it; also a little longer than its guest runs.
    pub fn is_there(&self) -> bool {
        self.vm.is_kept()
    }

    /// The live domain XML.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn domain_xml(&self) -> Result<String, CallError> {
        let request = GetDomainXmlRequest {};
        let answer = self.call(CALL, async |client| client.get_domain_xml(request).await);
        Ok(answer.await?.xml)
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, stream: Stream) -> Result<ByteStream, OpenError> {
        if self.status().await?.phase() == Phase::Starting {
            return Err(OpenError::NotReady {
                name: self.name.clone(),
                message: "its launcher is still starting it".into(),
            });
        }
        match stream {
            Stream::Console => {
                let opened = self.duplex(ConsoleBytes::default(), async |client, typed| {
                    client.console(typed).await
                });
                Ok(opened.await?)
            }
            Stream::Vnc { preserve_session } => {
                let first = VncBytes::first(preserve_session);
                let opened = self.duplex(first, async |client, typed| client.vnc(typed).await);
                opened.await.map_err(|error| match error {
                    CallError::Unavailable { message } if message.contains(VNC_IN_USE) => {
                        OpenError::InUse {
                            name: self.name.clone(),
                            message,
                        }
                    }
                    error => error.into(),
                })
            }
            Stream::Port { port, protocol } => {
                let opened = port::open(&self.vm.addresses, port, protocol).await;
                opened.map_err(|error| {
                    let message = format!("{}: {error}", named(&self.name));
                    CallError::Refused { message }.into()
                })
            }
        }
    }

    /// The screen, as a PNG.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn screenshot(&self, move_cursor: bool) -> Result<Vec<u8>, OpenError> {
        let request = ScreenshotRequest { move_cursor };
        let taken = async {
            let mut client = self.connect().await?;
            let pieces = client.screenshot(request).await;
            let mut pieces = pieces.map_err(|status| self.refused(&status))?.into_inner();
            let mut picture = vec![];
            while let Some(piece) = pieces
                .message()
                .await
                .map_err(|status| self.refused(&status))?
            {
                picture.extend(piece.data);
                if picture.len() > PICTURE {
                    let message = format!("{}: its screen is too large", named(&self.name));
                    return Err(CallError::Refused { message });
                }
            }
            Ok(picture)
        };
        Ok(self.within(CALL, taken).await?)
    }

    /// Asks for `action`.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn act(&self, action: Action, dry_run: bool) -> Result<(), CallError> {
        if let Some(objection) = objection(action, self.status().await?.phase()) {
            // Whose it is, is told with what was asked.
            let message = format!("it {objection}");
            return Err(CallError::Refused { message });
        }
        if dry_run {
            return Ok(());
        }
        // The reboot is the agent's first.
        let patience = match action {
            Action::SoftReboot => AGENT,
            _ => CALL,
        };
        self.call(patience, async |client| perform(client, action).await)
            .await
    }

    /// Asks the guest's agent.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask(&self, question: Question) -> Result<Value, CallError> {
        let told = self
            .call(AGENT, async |client| {
                client.get_guest_info(GetGuestInfoRequest {}).await
            })
            .await?;
        Ok(match question {
            Question::Os => guest::information(&told),
            Question::Users => guest::users(&told),
            Question::Filesystems => guest::file_systems(&told),
        })
    }
}

impl Machine {
    async fn connect(&self) -> Result<Client, CallError> {
        self.vm.connect().await.map_err(|_| {
            let named = named(&self.name);
            if self.vm.is_kept() {
                let message = format!("the launcher of {named} does not answer");
                CallError::Unavailable { message }
            } else {
                CallError::NotFound {
                    name: self.name.clone(),
                    message: format!("{named} has ended; `virtctl run FILE` starts it again"),
                }
            }
        })
    }

    /// Calls the launcher, which is given `patience`.
    async fn call<T>(
        &self,
        patience: Duration,
        call: impl AsyncFnOnce(&mut Client) -> Result<Response<T>, tonic::Status>,
    ) -> Result<T, CallError> {
        let answered = async {
            let answer = call(&mut self.connect().await?).await;
            answer
                .map(Response::into_inner)
                .map_err(|status| self.refused(&status))
        };
        self.within(patience, answered).await
    }

    async fn within<T>(
        &self,
        patience: Duration,
        answered: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        timeout(patience, answered).await.unwrap_or_else(|_| {
            let named = named(&self.name);
            let message = format!("no answer of {named} within {} s", patience.as_secs());
            Err(CallError::Unavailable { message })
        })
    }

    /// Opens a stream of the launcher's, whose first message is `first`.
    async fn duplex<M: relay::Message>(
        &self,
        first: M,
        open: impl AsyncFnOnce(
            &mut Client,
            Receiver<M>,
        ) -> Result<Response<Streaming<M>>, tonic::Status>,
    ) -> Result<ByteStream, CallError> {
        let (mut typed, input) = mpsc::channel(0);
        // An empty channel takes one.
        let _ = typed.try_send(first);
        let output = self.call(CALL, async |client| open(client, input).await);
        Ok(Box::new(Relay::new(typed, output.await?)))
    }

    fn refused(&self, status: &tonic::Status) -> CallError {
        let said = line(status.message(), MESSAGE).unwrap_or_else(|| "it said no more".into());
        let message = format!("{}: {said}", named(&self.name));
        match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument => CallError::Refused { message },
            Code::Unimplemented => CallError::Unsupported { message },
            _ => CallError::Unavailable { message },
        }
    }
}

/// What is wrong with `action` in the phase that a machine is in.
fn objection(action: Action, phase: Phase) -> Option<&'static str> {
    let paused = "is paused; `virtctl unpause` lets it run on";
    match (action, phase) {
        (_, Phase::Succeeded | Phase::Failed) => {
            Some("has ended; `virtctl run FILE` starts it again")
        }
        (Action::Start { .. }, _) => Some("runs already"),
        (Action::Restart { .. }, _) => Some(
            "lives as long as its `virtctl run`: stop it and run it again, or have its guest reboot \
             with `virtctl soft-reboot`",
        ),
        (Action::Stop { .. }, _) => None,
        (_, Phase::Unspecified | Phase::Starting) => Some("is starting; try again in a moment"),
        (_, Phase::ShuttingDown) => Some("is shutting down"),
        (Action::Pause, Phase::Paused) => Some("is paused already"),
        (Action::SoftReboot, Phase::Paused) => Some(paused),
        (Action::Unpause, Phase::Running) => Some("is not paused"),
        (Action::Pause | Action::SoftReboot, Phase::Running)
        | (Action::Unpause, Phase::Paused)
        | (Action::Reset, Phase::Running | Phase::Paused) => None,
    }
}

/// Does what is not objected to.
async fn perform(client: &mut Client, action: Action) -> Result<Response<()>, tonic::Status> {
    match action {
        Action::Start { .. } | Action::Restart { .. } => {}
        Action::Stop { grace_period } => {
            let seconds = |period: Duration| period.as_secs().try_into().unwrap_or(u32::MAX);
            let grace_seconds = grace_period.map(seconds);
            client.shutdown(ShutdownRequest { grace_seconds }).await?;
        }
        Action::Pause => drop(client.pause(PauseRequest {}).await?),
        Action::Unpause => drop(client.unpause(UnpauseRequest {}).await?),
        Action::SoftReboot => drop(client.soft_reboot(SoftRebootRequest {}).await?),
        Action::Reset => drop(client.reset(ResetRequest {}).await?),
    }
    Ok(Response::new(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_objected_to() {
        use Action::*;
        let (start, stop) = (Start { paused: false }, Stop { grace_period: None });
        let restart = Restart { grace_period: None };
        let cases = [
            (start, Phase::Running, Some("runs already")),
            (restart, Phase::Running, Some("soft-reboot")),
            (stop, Phase::Starting, None),
            (stop, Phase::Paused, None),
            (stop, Phase::Failed, Some("has ended")),
            (Pause, Phase::Starting, Some("is starting")),
            (Pause, Phase::Running, None),
            (Pause, Phase::Paused, Some("paused already")),
            (Unpause, Phase::Running, Some("is not paused")),
            (Unpause, Phase::Paused, None),
            (SoftReboot, Phase::Running, None),
            (SoftReboot, Phase::Paused, Some("`virtctl unpause`")),
            (SoftReboot, Phase::ShuttingDown, Some("is shutting down")),
            (Reset, Phase::Paused, None),
            (Reset, Phase::Succeeded, Some("has ended")),
        ];
        for (action, phase, words) in cases {
            let said = objection(action, phase);
            let as_expected = match (said, words) {
                (Some(said), Some(words)) => said.contains(words),
                (said, words) => said == words,
            };
            assert!(as_expected, "{action:?} while {phase:?}: {said:?}");
        }
    }
}
