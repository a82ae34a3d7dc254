//! The protocol's server: translates calls, decides nothing.

mod freeze;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use launcher::lifecycle::Input;
use launcher_api::launcher_server::Launcher;
use launcher_api::{
    ConsoleBytes, DomainXml, Event, FreezeReply, FreezeRequest, GetDomainXmlRequest,
    GetGuestInfoRequest, GetStatsRequest, GetStatusRequest, GuestExecReply, GuestExecRequest,
    GuestInfo, GuestPingReply, GuestPingRequest, MonitorCommand, MonitorReply, PauseReply,
    PauseRequest, Phase, ResetReply, ResetRequest, ScreenshotBytes, ScreenshotRequest,
    ShutdownReply, ShutdownRequest, SoftRebootReply, SoftRebootRequest, Stats, Status,
    UnfreezeReply, UnfreezeRequest, UnpauseReply, UnpauseRequest, VncBytes, WatchRequest,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Streaming};

use crate::agent::{self, ExecError};
use crate::console::Session;
use crate::events::Events;
use crate::hypervisor::{Guest, Hypervisor, HypervisorError};
use crate::live;
use crate::stats::{self, stats};
use crate::vnc::{Vnc, VncError};

/// How long the status may take to show what libvirt has done.
const SHOWN: Duration = Duration::from_secs(5);

/// How long a screen that sleeps takes to be drawn again.
const DRAWN: Duration = Duration::from_millis(250);

/// The largest piece of a screenshot, in bytes.
const PIECE: usize = 16 * 1024;

/// How long a command in the guest may take where the caller does not say.
const EXEC: Duration = Duration::from_secs(30);

type Answer<T> = Result<Response<T>, tonic::Status>;

type Refusable<T> = Result<T, tonic::Status>;

/// What the calls need of the worker.
pub(crate) struct Server {
    pub(crate) events: Events,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) sessions: mpsc::Sender<Session>,
    pub(crate) vnc: Vnc,
    /// There once libvirt is open.
    pub(crate) hypervisor: std::sync::Arc<OnceLock<Hypervisor>>,
    /// The VMI's own grace period.
    pub(crate) grace: Duration,
    /// Where QEMU's process id is.
    pub(crate) pid_file: PathBuf,
}

impl Server {
    fn hypervisor(&self) -> Refusable<&Hypervisor> {
        self.hypervisor
            .get()
            .ok_or_else(|| tonic::Status::unavailable("libvirt is not open yet; try again"))
    }

    /// Asks something of the domain.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Guest) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Refusable<T> {
        self.hypervisor()?.call(call).await.map_err(refused)
    }

    /// The way to the guest's agent, where one is there.
    fn agent(&self) -> Refusable<&Hypervisor> {
        if !self.status.borrow().agent_connected {
            let missing = "the guest's agent is not connected; is qemu-guest-agent running there?";
            return Err(tonic::Status::failed_precondition(missing));
        }
        self.hypervisor()
    }

    /// Refuses what makes no sense in the phase that the VM is in.
    fn expect(&self, phases: &[Phase]) -> Refusable<()> {
        let phase = self.status.borrow().phase();
        if phases.contains(&phase) {
            return Ok(());
        }
        Err(tonic::Status::failed_precondition(match phase {
            Phase::Unspecified | Phase::Starting => "the VM does not run yet",
            Phase::Running => "the VM is not paused",
            Phase::Paused => "the VM is paused",
            Phase::ShuttingDown => "the VM is shutting down",
            Phase::Succeeded | Phase::Failed => "the VM has ended",
        }))
    }

    /// Waits until whoever asks for the status is told of another phase. libvirt's event follows its
    /// answer, and takes a moment.
    async fn leaves(&self, phase: Phase) {
        let mut status = self.status.clone();
        let left = status.wait_for(|status| status.phase() != phase);
        // The call has done what it was asked for, whoever knows it.
        let _ = timeout(SHOWN, left).await;
    }

    fn tell(&self, input: Input) -> Refusable<()> {
        self.inputs
            .send(input)
            .map_err(|_| tonic::Status::unavailable("the VM has ended"))
    }
}

fn refused(error: HypervisorError) -> tonic::Status {
    let message = error.to_string();
    match error {
        HypervisorError::Agent { .. } | HypervisorError::Busy | HypervisorError::Closed => {
            tonic::Status::unavailable(message)
        }
        _ => tonic::Status::failed_precondition(message),
    }
}

/// Hands a file on, piece by piece.
async fn send(
    mut file: File,
    pieces: mpsc::Sender<Refusable<ScreenshotBytes>>,
) -> Result<(), mpsc::error::SendError<Refusable<ScreenshotBytes>>> {
    let mut buffer = vec![0; PIECE];
    loop {
        // It was written a moment ago, so it is in memory.
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let data = buffer[..count].to_vec();
                pieces.send(Ok(ScreenshotBytes { data })).await?;
            }
            Err(error) => {
                let lost = format!("cannot read the screenshot: {error}");
                return pieces.send(Err(tonic::Status::internal(lost))).await;
            }
        }
    }
}

#[tonic::async_trait]
impl Launcher for Server {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<Status> {
        let mut status = self.status.borrow().clone();
        status.qemu_pid = std::fs::read_to_string(&self.pid_file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        Ok(Response::new(status))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<Event, tonic::Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let (sender, receiver) = mpsc::channel(16);
        let mut follower = self.events.follow();
        tokio::spawn(async move {
            while let Some(event) = follower.next().await {
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_domain_xml(&self, _: Request<GetDomainXmlRequest>) -> Answer<DomainXml> {
        let xml = self.call(Guest::xml).await?;
        Ok(Response::new(DomainXml { xml }))
    }

    async fn query_monitor(&self, request: Request<MonitorCommand>) -> Answer<MonitorReply> {
        let command = request.into_inner().command;
        let reply = self.call(move |guest| guest.monitor(&command)).await?;
        Ok(Response::new(MonitorReply { reply }))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<ShutdownReply> {
        let grace = request
            .into_inner()
            .grace_seconds
            .map_or(self.grace, |seconds| Duration::from_secs(seconds.into()));
        self.tell(Input::StopRequested { grace })?;
        Ok(Response::new(ShutdownReply {}))
    }

    type ConsoleStream = ReceiverStream<Result<ConsoleBytes, tonic::Status>>;

    async fn console(
        &self,
        request: Request<Streaming<ConsoleBytes>>,
    ) -> Answer<Self::ConsoleStream> {
        let (typed, input) = mpsc::channel(1);
        let (output, printed) = mpsc::channel(1);
        self.sessions
            .send(Session { input, output })
            .await
            .map_err(|_| tonic::Status::failed_precondition("the VM has no serial console"))?;
        let mut keys = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(bytes)) = keys.next().await {
                if typed.send(bytes.data).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(printed)))
    }

    type VncStream = ReceiverStream<Refusable<VncBytes>>;

    async fn vnc(&self, request: Request<Streaming<VncBytes>>) -> Answer<Self::VncStream> {
        let mut input = request.into_inner();
        let first = input.message().await?.unwrap_or_default();
        let shown = self.vnc.open(first, input).await;
        let shown = shown.map_err(|error| match error {
            VncError::InUse => tonic::Status::unavailable(error.to_string()),
            VncError::Connect { ref source } => {
                tonic::Status::failed_precondition(format!("{error}: {source}"))
            }
        })?;
        Ok(Response::new(ReceiverStream::new(shown)))
    }

    type ScreenshotStream = ReceiverStream<Refusable<ScreenshotBytes>>;

    async fn screenshot(
        &self,
        request: Request<ScreenshotRequest>,
    ) -> Answer<Self::ScreenshotStream> {
        if request.into_inner().move_cursor {
            self.call(Guest::wake_screen).await?;
            sleep(DRAWN).await;
        }
        let file = self.call(Guest::screenshot).await?;
        let (pieces, taken) = mpsc::channel(1);
        // Ends where nobody takes them.
        tokio::spawn(send(file, pieces));
        Ok(Response::new(ReceiverStream::new(taken)))
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Answer<PauseReply> {
        self.expect(&[Phase::Running])?;
        self.call(Guest::pause).await?;
        self.leaves(Phase::Running).await;
        Ok(Response::new(PauseReply {}))
    }

    async fn unpause(&self, _: Request<UnpauseRequest>) -> Answer<UnpauseReply> {
        self.expect(&[Phase::Paused])?;
        self.call(Guest::unpause).await?;
        self.leaves(Phase::Paused).await;
        Ok(Response::new(UnpauseReply {}))
    }

    async fn soft_reboot(&self, _: Request<SoftRebootRequest>) -> Answer<SoftRebootReply> {
        self.expect(&[Phase::Running])?;
        let hypervisor = self.hypervisor()?;
        // On the agent's lane: it is the agent that is asked first.
        let rebooted = hypervisor.call_agent(Guest::reboot).await;
        rebooted.map_err(refused)?;
        Ok(Response::new(SoftRebootReply {}))
    }

    async fn reset(&self, _: Request<ResetRequest>) -> Answer<ResetReply> {
        self.expect(&[Phase::Running, Phase::Paused])?;
        self.call(Guest::reset).await?;
        Ok(Response::new(ResetReply {}))
    }

    async fn freeze(&self, request: Request<FreezeRequest>) -> Answer<FreezeReply> {
        let seconds = request.into_inner().unfreeze_timeout_seconds;
        let thaw_after = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let freezing = self.agent()?.clone();
        let thawing = freezing.clone();
        let (caller, frozen) = oneshot::channel();
        // To its end also where the caller goes away, who takes nothing then.
        tokio::spawn(freeze::freeze(
            self.inputs.clone(),
            thaw_after,
            async move { freezing.call_agent(agent::freeze).await },
            async move { thawing.call_agent(agent::thaw).await },
            caller,
        ));
        let frozen = frozen.await;
        frozen.map_err(|error| tonic::Status::internal(error.to_string()))??;
        Ok(Response::new(FreezeReply {}))
    }

    async fn unfreeze(&self, _: Request<UnfreezeRequest>) -> Answer<UnfreezeReply> {
        let thawed = self.agent()?.call_agent(agent::thaw).await;
        thawed.map_err(refused)?;
        self.tell(Input::Thawed)?;
        Ok(Response::new(UnfreezeReply {}))
    }

    async fn get_guest_info(&self, _: Request<GetGuestInfoRequest>) -> Answer<GuestInfo> {
        let info = self.agent()?.call_agent(agent::info).await;
        Ok(Response::new(info.map_err(refused)?))
    }

    async fn guest_ping(&self, _: Request<GuestPingRequest>) -> Answer<GuestPingReply> {
        let answered = self.agent()?.call_agent(agent::ping).await;
        answered.map_err(refused)?;
        Ok(Response::new(GuestPingReply {}))
    }

    async fn guest_exec(&self, request: Request<GuestExecRequest>) -> Answer<GuestExecReply> {
        let GuestExecRequest {
            command,
            timeout_seconds,
        } = request.into_inner();
        if command.is_empty() {
            return Err(tonic::Status::invalid_argument("command: name a program"));
        }
        let limit = match timeout_seconds {
            0 => EXEC,
            seconds => Duration::from_secs(seconds.into()),
        };
        let reply = agent::exec(self.agent()?, command, limit).await;
        Ok(Response::new(reply.map_err(|error| match error {
            ExecError::Agent(error) => refused(error),
            ExecError::TimedOut(_) => tonic::Status::deadline_exceeded(error.to_string()),
        })?))
    }

    async fn get_stats(&self, _: Request<GetStatsRequest>) -> Answer<Stats> {
        let read = |guest: &Guest| Ok((guest.xml()?, guest.counters(stats::KINDS)?));
        let (xml, counters) = self.call(read).await?;
        let live = live::read(&xml).map_err(|error| tonic::Status::internal(error.to_string()))?;
        let interfaces = self.status.borrow().interfaces.clone();
        Ok(Response::new(stats(&counters, &live, &interfaces)))
    }
}
