//! A launcher that says what a test wants, true or not.

use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use launcher_api::launcher_server::{Launcher, LauncherServer};
use launcher_api::*;
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Streaming};

/// What a launcher answers.
#[derive(Clone)]
pub(crate) struct Adversary {
    pub(crate) status: watch::Receiver<Status>,
    /// Whether a status that changes is told of, as by an honest worker.
    pub(crate) tells: bool,
    /// The events of one connection, made anew for each.
    pub(crate) events: fn() -> Told,
    pub(crate) guest: fn() -> Answered,
    pub(crate) console: fn(Streaming<ConsoleBytes>) -> Answer<Bytes<ConsoleBytes>>,
    /// The first message, and those that follow.
    pub(crate) vnc: fn(VncBytes, Streaming<VncBytes>) -> Answer<Bytes<VncBytes>>,
    pub(crate) screenshot: fn(ScreenshotRequest) -> Answer<Bytes<ScreenshotBytes>>,
    /// How often it was asked for its statistics.
    pub(crate) scrapes: watch::Sender<u32>,
    /// How many consoles and screens are open, and how many messages they have sent.
    pub(crate) sessions: watch::Sender<Sessions>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    pub(crate) open: usize,
    pub(crate) sent: usize,
}

pub(crate) type Told = Pin<Box<dyn Stream<Item = Result<Event, tonic::Status>> + Send>>;
pub(crate) type Answered = Pin<Box<dyn Future<Output = GuestInfo> + Send>>;

/// A running server; its end is its connections' end, as where a worker is killed.
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Adversary {
    /// One that says this, and has no events.
    pub(crate) fn new(status: &watch::Sender<Status>) -> Self {
        Self {
            status: status.subscribe(),
            tells: true,
            events: || Box::pin(tokio_stream::pending()),
            guest: || Box::pin(async { GuestInfo::default() }),
            console: |_| no(),
            vnc: |_, _| no(),
            screenshot: |_| no(),
            scrapes: watch::Sender::default(),
            sessions: watch::Sender::default(),
        }
    }

    /// Listens at that path, in the place of whoever did before.
    pub(crate) fn listen(self, path: &Path) -> Server {
        let _ = std::fs::remove_file(path);
        let listener = StdListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        // An event loop of its own: it takes every task of the server along.
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
                let mut server = tonic::transport::Server::builder();
                let served = server
                    .add_service(LauncherServer::new(self))
                    .serve_with_incoming(incoming);
                tokio::select! {
                    served = served => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Server {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

pub(crate) type Answer<T> = Result<Response<T>, tonic::Status>;
pub(crate) type Bytes<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

fn no<T>() -> Answer<T> {
    Err(tonic::Status::unimplemented("no"))
}

/// A session that is counted until it is dropped.
struct Session<T> {
    sessions: watch::Sender<Sessions>,
    output: Bytes<T>,
}

impl<T: Send + 'static> Session<T> {
    fn begin(sessions: &watch::Sender<Sessions>, answer: Answer<Bytes<T>>) -> Answer<Bytes<T>> {
        let output = answer?.into_inner();
        sessions.send_modify(|sessions| sessions.open += 1);
        let sessions = sessions.clone();
        Ok(Response::new(Box::pin(Self { sessions, output })))
    }
}

impl<T> Drop for Session<T> {
    fn drop(&mut self) {
        self.sessions.send_modify(|sessions| sessions.open -= 1);
    }
}

impl<T> Stream for Session<T> {
    type Item = Result<T, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = std::task::ready!(self.output.as_mut().poll_next(context));
        self.sessions.send_modify(|sessions| sessions.sent += 1);
        Poll::Ready(message)
    }
}

#[tonic::async_trait]
impl Launcher for Adversary {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<Status> {
        Ok(Response::new(self.status.borrow().clone()))
    }

    type WatchStream = Told;

    async fn watch(&self, _: Request<WatchRequest>) -> Answer<Told> {
        if !self.tells {
            return Ok(Response::new((self.events)()));
        }
        let changes = futures::stream::unfold(self.status.clone(), async |mut status| {
            status.changed().await.ok()?;
            Some((Ok(Event::default()), status))
        });
        let told = futures::stream::select(Box::pin(changes), (self.events)());
        Ok(Response::new(Box::pin(told)))
    }

    async fn get_guest_info(&self, _: Request<GetGuestInfoRequest>) -> Answer<GuestInfo> {
        Ok(Response::new((self.guest)().await))
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Answer<PauseReply> {
        Ok(Response::new(PauseReply {}))
    }

    async fn unpause(&self, _: Request<UnpauseRequest>) -> Answer<UnpauseReply> {
        Err(tonic::Status::failed_precondition("not \u{1b}paused"))
    }

    async fn get_domain_xml(&self, _: Request<GetDomainXmlRequest>) -> Answer<DomainXml> {
        no()
    }
    async fn query_monitor(&self, _: Request<MonitorCommand>) -> Answer<MonitorReply> {
        no()
    }
    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Answer<ShutdownReply> {
        no()
    }
    type ConsoleStream = Bytes<ConsoleBytes>;
    async fn console(
        &self,
        request: Request<Streaming<ConsoleBytes>>,
    ) -> Answer<Bytes<ConsoleBytes>> {
        Session::begin(&self.sessions, (self.console)(request.into_inner()))
    }
    type VncStream = Bytes<VncBytes>;
    async fn vnc(&self, request: Request<Streaming<VncBytes>>) -> Answer<Bytes<VncBytes>> {
        let mut input = request.into_inner();
        let first = input.message().await?.unwrap_or_default();
        Session::begin(&self.sessions, (self.vnc)(first, input))
    }
    type ScreenshotStream = Bytes<ScreenshotBytes>;
    async fn screenshot(
        &self,
        request: Request<ScreenshotRequest>,
    ) -> Answer<Bytes<ScreenshotBytes>> {
        (self.screenshot)(request.into_inner())
    }
    async fn soft_reboot(&self, _: Request<SoftRebootRequest>) -> Answer<SoftRebootReply> {
        no()
    }
    async fn reset(&self, _: Request<ResetRequest>) -> Answer<ResetReply> {
        no()
    }
    async fn freeze(&self, _: Request<FreezeRequest>) -> Answer<FreezeReply> {
        no()
    }
    async fn unfreeze(&self, _: Request<UnfreezeRequest>) -> Answer<UnfreezeReply> {
        no()
    }
    async fn guest_ping(&self, _: Request<GuestPingRequest>) -> Answer<GuestPingReply> {
        no()
    }
    async fn guest_exec(&self, _: Request<GuestExecRequest>) -> Answer<GuestExecReply> {
        no()
    }
    async fn get_stats(&self, _: Request<GetStatsRequest>) -> Answer<Stats> {
        self.scrapes.send_modify(|scrapes| *scrapes += 1);
        Ok(Response::new(Stats::default()))
    }
}
