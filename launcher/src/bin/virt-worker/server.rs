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
}
