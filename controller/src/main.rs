//! virt-controller: from VirtualMachines to their pods, and admission.

use std::iter::once;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use controller::api::{self, ApiContext, Handlers, Streams};
use controller::certificates::{self, Identity};
use controller::config::Settings;
use controller::lease::Election;
use controller::metrics::Metrics;
use controller::run::{Leader, World, follow_settings, report};
use controller::server::{self, Limits, Readiness, Transport};
use controller::uninstall;
use kube_client::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::info;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the API server may say nothing. It ends the longest watches itself, after 290 s.
const SILENCE: Duration = Duration::from_secs(300);
/// How long the front proxy is waited for before requests are taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long streams may take to close when the process ends.
const FAREWELL: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(
    version,
    about = "Makes virtual machines of their manifests in a Kubernetes cluster"
)]
struct Args {
    /// The image of virt-launcher.
    #[arg(long, env = "LAUNCHER_IMAGE")]
    launcher_image: String,
    /// The namespace of Ferrovirt's own parts.
    #[arg(long, env = "POD_NAMESPACE", default_value = "ferrovirt")]
    namespace: String,
    /// This replica's name.
    #[arg(long, env = "POD_NAME", default_value = "virt-controller")]
    name: String,
    /// The port of the API server's webhooks, by TLS.
    #[arg(long, default_value_t = 8443)]
    webhook_port: u16,
    /// The port of the API server's aggregator, by TLS.
    #[arg(long, default_value_t = 8444)]
    api_port: u16,
    /// The port of health and metrics.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// What is logged: off, error, warn, info, debug or trace; TARGET=LEVEL for a crate or one of
    /// its modules. Several with commas between them.
    #[arg(
        long,
        env = "RUST_LOG",
        value_name = "LEVELS",
        value_parser = levels,
        default_value = "info"
    )]
    rust_log: Targets,
}

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::registry()
        .with(fmt::layer().with_writer(std::io::stderr).with_target(false))
        .with(args.rust_log.clone())
        .init();
    match act(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The alternate form has the causes in the same line.
            eprintln!("virt-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is logged: a level, and those of single targets; `info` where nothing is said.
fn levels(said: &str) -> Result<Targets, ParseError> {
    // An empty directive would be read as `error`.
    let said = said.split(',').map(str::trim).filter(|one| !one.is_empty());
    // Of two for the same target, the later counts.
    let all: Vec<_> = once("info").chain(said).collect();
    all.join(",").parse()
}

fn act(args: Args) -> anyhow::Result<()> {
    // kube's TLS asks for it; with two in the binary, rustls would not choose.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("TLS is set up already"))?;
    // One thread: what is shared is small, and a second one's heap is not.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot take SIGINT")?;
    let config = Config::infer()
        .await
        .context("cannot find the API server")?;
    let client = Client::try_from(bounded(config)).context("cannot call the API server")?;
    let (settings_to, settings) = watch::channel(Settings::default());
    let (known_to, known) = watch::channel(false);
    let (identity_to, identity) = watch::channel(None);
    let (authority_to, authority) = watch::channel(None);
    let (trusted_to, trusted) = watch::channel(false);
    let (front_proxy_to, front_proxy) = watch::channel(None);
    let (handlers_to, handlers) = watch::channel(None);
    let (ending_to, ending) = watch::channel(false);
    let (handler_to, handler) = watch::channel(None);
    let (readiness_to, readiness) = watch::channel(Readiness::Starting);
    let mut world = World::default();
    let (vms, vmis) = world.stores();
    let metrics = Arc::new(Metrics::new(vms, vmis));

    let mut servers = JoinSet::new();
    let limits = Limits::default();
    let context = server::Context {
        namespace: args.namespace.as_str().into(),
        settings: settings.clone(),
        readiness: readiness.clone(),
    };
    servers.spawn(server::serve(
        listen(args.webhook_port).await?,
        Transport::Tls(identity.clone()),
        server::webhooks(context, limits),
        readiness.clone(),
        limits,
    ));
    let aggregated = Limits::aggregated();
    let handlers = Handlers {
        client: client.clone(),
        namespace: args.namespace.as_str().into(),
        tls: handlers,
    };
    let context = ApiContext {
        client: client.clone(),
        readiness: readiness.clone(),
        trust: front_proxy.clone(),
        handlers: handlers.clone(),
        streams: Streams::new(ending),
    };
    servers.spawn(server::serve(
        listen(args.api_port).await?,
        Transport::Aggregated {
            identity: identity.clone(),
            trust: front_proxy.clone(),
        },
        api::router(context, aggregated),
        readiness.clone(),
        aggregated,
    ));
    servers.spawn(server::serve(
        listen(args.port).await?,
        Transport::Plain,
        server::probes(readiness.clone(), metrics.clone(), limits),
        readiness,
        limits,
    ));

    let mut election = Election::new(client.clone(), &args.namespace, args.name.clone());
    let leader = Leader {
        client: client.clone(),
        instance: args.name,
        launcher_image: args.launcher_image,
        handlers,
        settings,
        metrics: metrics.clone(),
        handler: handler_to,
    };
    let mut known_settings = known.clone();
    let reported = trusted.clone();
    let lead = async {
        // A pod is made once, and as the settings are by then. No sender ends before the process
        // does.
        let _ = known_settings.wait_for(|known| *known).await;
        loop {
            let until = election.win().await;
            metrics.set_leading(true);
            let work = async {
                futures::join!(
                    leader.run(&mut world),
                    uninstall::prepare(&client, &args.namespace),
                    report(
                        client.clone(),
                        &args.namespace,
                        reported.clone(),
                        handler.clone()
                    ),
                )
                .0
            };
            tokio::select! {
                () = election.keep(until) => {}
                never = work => match never {},
            }
            metrics.set_leading(false);
        }
    };
    let known_identity = identity.clone();
    let readied = async {
        // No sender ends before the process does.
        let _ = wait(known, known_identity, trusted).await;
        // A cluster with no aggregation layer has none, and its webhooks are to work.
        let mut front_proxy = front_proxy;
        let _ = timeout(PATIENCE, front_proxy.wait_for(Option::is_some)).await;
        metrics.set_ready(true);
        readiness_to.send_replace(Readiness::Ready);
        std::future::pending().await
    };
    let uninstalled = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = uninstall::begun(&client) => true,
        () = lead => false,
        () = readied => false,
        never = follow_settings(
            client.clone(), &args.namespace, &settings_to, &known_to, &metrics,
        ) => match never {},
        never = certificates::keep(
            client.clone(), &args.namespace, &identity_to, &authority_to,
        ) => match never {},
        never = certificates::keep_handlers(
            client.clone(), &args.namespace, authority.clone(),
        ) => match never {},
        never = certificates::dial(authority, &handlers_to) => match never {},
        never = api::follow(client.clone(), &front_proxy_to) => match never {},
        never = certificates::inject(client.clone(), identity, &trusted_to) => match never {},
    };
    info!("ending");
    readiness_to.send_replace(Readiness::Draining);
    election.release().await;
    match uninstalled {
        true => uninstall::finish(&client, &args.namespace).await,
        false => uninstall::terminated(&client, &args.namespace).await,
    }
    servers.join_all().await;
    ending_to.send_replace(true);
    // With the listeners, every receiver is gone but those of streams.
    let _ = timeout(FAREWELL, ending_to.closed()).await;
    Ok(())
}

/// Has an API server given up that takes calls and never answers. By kube's default it is waited for,
/// for ever.
fn bounded(mut config: Config) -> Config {
    config.read_timeout = Some(SILENCE);
    // It is counted from the call, not from when its connection was heard last.
    config.reset_reader_on_write = true;
    config
}

/// Waits until requests can be answered: the settings are known, and who this server is, here and
/// to the API server.
async fn wait(
    mut known: watch::Receiver<bool>,
    mut identity: watch::Receiver<Option<Identity>>,
    mut trusted: watch::Receiver<bool>,
) -> Result<(), watch::error::RecvError> {
    known.wait_for(|known| *known).await?;
    identity.wait_for(Option::is_some).await?;
    trusted.wait_for(|trusted| *trusted).await?;
    Ok(())
}

/// Listens on all addresses of both families, or of the one that there is.
async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            .await
            .with_context(|| format!("cannot listen on port {port}")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::{Instant, sleep};
    use tracing::Level;
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    /// How long a watch with nothing to tell lasts.
    const WATCH: Duration = Duration::from_secs(290);

    /// A client as this program's, and who is called by it.
    async fn called() -> (Client, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = bounded(Config::new(url.parse().unwrap()));
        (Client::try_from(config).unwrap(), listener)
    }

    fn request() -> Request<Vec<u8>> {
        Request::get("/version").body(Vec::new()).unwrap()
    }

    /// Reads one request, and answers it after `wait`.
    async fn answer(socket: &mut TcpStream, wait: Duration) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.unwrap());
        }
        sleep(wait).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        socket.write_all(answer).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_call_and_never_answers_is_given_up() {
        let (client, _listener) = called().await;
        let begun = Instant::now();
        let answer = timeout(2 * SILENCE, client.request_text(request())).await;
        assert!(answer.unwrap().is_err());
        assert!(begun.elapsed() > WATCH);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_takes_as_long_as_a_watch_on_a_connection_that_was_idle() {
        let (client, listener) = called().await;
        let serve = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, Duration::ZERO).await;
            answer(&mut socket, WATCH).await;
        };
        let call = async {
            client.request_text(request()).await.unwrap();
            // As long as kube keeps it.
            sleep(Duration::from_secs(80)).await;
            client.request_text(request()).await.unwrap();
        };
        timeout(4 * SILENCE, async { tokio::join!(serve, call) })
            .await
            .unwrap();
    }

    #[test]
    fn what_is_logged_is_info_and_what_is_said() {
        let cases = [
            ("", "hyper", LevelFilter::INFO),
            (" , ", "hyper", LevelFilter::INFO),
            ("warn", "hyper", LevelFilter::WARN),
            ("OFF", "hyper", LevelFilter::OFF),
            ("controller=debug", "controller::api", LevelFilter::DEBUG),
            ("controller=debug", "hyper", LevelFilter::INFO),
            ("warn, controller=trace,", "controller", LevelFilter::TRACE),
            ("warn, controller=trace,", "hyper", LevelFilter::WARN),
        ];
        for (said, target, expected) in cases {
            let levels = levels(said).unwrap();
            for level in [
                Level::ERROR,
                Level::WARN,
                Level::INFO,
                Level::DEBUG,
                Level::TRACE,
            ] {
                let logged = levels.would_enable(target, &level);
                assert_eq!(logged, level <= expected, "{said:?} {target} {level}");
            }
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused_by_name() {
        let args = [
            "virt-controller",
            "--launcher-image",
            "launcher",
            "--rust-log",
            "controller=loud",
        ];
        let Err(refused) = Args::try_parse_from(args) else {
            panic!("it is taken");
        };
        let refused = refused.to_string();
        for part in ["--rust-log", "controller=loud", "debug"] {
            assert!(refused.contains(part), "{refused}");
        }
    }
}
