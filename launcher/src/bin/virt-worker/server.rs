//! The protocol's server: translates calls, decides nothing.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use launcher::lifecycle::Input;
use launcher_api::launcher_server::Launcher;
use launcher_api::{
    ConsoleBytes, DomainXml, Event, GetDomainXmlRequest, GetStatusRequest, MonitorCommand,
    MonitorReply, ShutdownReply, ShutdownRequest, Status, WatchRequest,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Streaming};

use crate::console::Session;
use crate::events::Events;
use crate::hypervisor::{Hypervisor, HypervisorError};

type Answer<T> = Result<Response<T>, tonic::Status>;

/// What the calls need of the worker.
pub(crate) struct Server {
    pub(crate) events: Events,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) sessions: mpsc::Sender<Session>,
    /// There once libvirt is open.
    pub(crate) hypervisor: std::sync::Arc<OnceLock<Hypervisor>>,
    /// The VMI's own grace period.
    pub(crate) grace: Duration,
    /// Where QEMU's process id is.
    pub(crate) pid_file: PathBuf,
}

impl Server {
    fn hypervisor(&self) -> Result<&Hypervisor, tonic::Status> {
        self.hypervisor
            .get()
            .ok_or_else(|| tonic::Status::unavailable("libvirt is not open yet; try again"))
    }
}

fn refused(error: HypervisorError) -> tonic::Status {
    tonic::Status::failed_precondition(error.to_string())
}

/// The answer to calls that the protocol has and this worker does not have yet.
fn later() -> tonic::Status {
    tonic::Status::unimplemented("not implemented yet")
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
        let xml = self
            .hypervisor()?
            .run(|driver| driver.xml())
            .await
            .map_err(refused)?;
        Ok(Response::new(DomainXml { xml }))
    }

    async fn query_monitor(&self, request: Request<MonitorCommand>) -> Answer<MonitorReply> {
        let command = request.into_inner().command;
        let reply = self
            .hypervisor()?
            .run(move |driver| driver.monitor(&command))
            .await
            .map_err(refused)?;
        Ok(Response::new(MonitorReply { reply }))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<ShutdownReply> {
        let grace = request
            .into_inner()
            .grace_seconds
            .map_or(self.grace, |seconds| Duration::from_secs(seconds.into()));
        self.inputs
            .send(Input::StopRequested { grace })
            .map_err(|_| tonic::Status::unavailable("the VM has ended"))?;
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
            .map_err(|_| tonic::Status::unavailable("the VM has no serial console"))?;
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

    async fn pause(
        &self,
        _: Request<launcher_api::PauseRequest>,
    ) -> Answer<launcher_api::PauseReply> {
        Err(later())
    }

    async fn unpause(
        &self,
        _: Request<launcher_api::UnpauseRequest>,
    ) -> Answer<launcher_api::UnpauseReply> {
        Err(later())
    }

    async fn soft_reboot(
        &self,
        _: Request<launcher_api::SoftRebootRequest>,
    ) -> Answer<launcher_api::SoftRebootReply> {
        Err(later())
    }

    async fn reset(
        &self,
        _: Request<launcher_api::ResetRequest>,
    ) -> Answer<launcher_api::ResetReply> {
        Err(later())
    }

    async fn freeze(
        &self,
        _: Request<launcher_api::FreezeRequest>,
    ) -> Answer<launcher_api::FreezeReply> {
        Err(later())
    }

    async fn unfreeze(
        &self,
        _: Request<launcher_api::UnfreezeRequest>,
    ) -> Answer<launcher_api::UnfreezeReply> {
        Err(later())
    }

    async fn get_guest_info(
        &self,
        _: Request<launcher_api::GetGuestInfoRequest>,
    ) -> Answer<launcher_api::GuestInfo> {
        Err(later())
    }

    async fn guest_ping(
        &self,
        _: Request<launcher_api::GuestPingRequest>,
    ) -> Answer<launcher_api::GuestPingReply> {
        Err(later())
    }

    async fn guest_exec(
        &self,
        _: Request<launcher_api::GuestExecRequest>,
    ) -> Answer<launcher_api::GuestExecReply> {
        Err(later())
    }

    async fn get_stats(
        &self,
        _: Request<launcher_api::GetStatsRequest>,
    ) -> Answer<launcher_api::Stats> {
        Err(later())
    }

    type VncStream = ReceiverStream<Result<launcher_api::VncBytes, tonic::Status>>;

    async fn vnc(&self, _: Request<Streaming<launcher_api::VncBytes>>) -> Answer<Self::VncStream> {
        Err(later())
    }

    type ScreenshotStream = ReceiverStream<Result<launcher_api::ScreenshotBytes, tonic::Status>>;

    async fn screenshot(
        &self,
        _: Request<launcher_api::ScreenshotRequest>,
    ) -> Answer<Self::ScreenshotStream> {
        Err(later())
    }
}
