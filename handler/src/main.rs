//! virt-handler: what a node offers to virtual machines, and what is seen of them there.
//!
//! `prepare` runs first, with the privilege to ask the machine; it ends. `run` has none of it.

use std::iter::once;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use handler::launchers::{self, Launchers};
use handler::node::{self, Facts, PrepareArgs};
use handler::{api, devices, listener, metrics, server};
use kube_client::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the API server may say nothing. It ends the longest watches itself, after 290 s.
const SILENCE: Duration = Duration::from_secs(300);

#[derive(Parser)]
#[command(version, about = "Serves the virtual machines of one Kubernetes node")]
struct Cli {
    /// What is logged: off, error, warn, info, debug or trace; TARGET=LEVEL for a crate or one of
    /// its modules. Several with commas between them.
    #[arg(
        long,
        env = "RUST_LOG",
        value_name = "LEVELS",
        value_parser = levels,
        default_value = "info",
        global = true
    )]
    rust_log: Targets,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find out what the node can do, and keep on it what launchers need. Takes privilege; ends.
    Prepare(PrepareArgs),
    /// Offer the node's devices, follow its launchers, label it.
    Run(RunArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// The node's name.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// The kubelet's directory.
    #[arg(long, env = "KUBELET_DIR", default_value = "/var/lib/kubelet")]
    kubelet_dir: PathBuf,
    /// Where the node's /dev is found. Nothing in it is opened.
    #[arg(long, env = "DEVICES", default_value = "/dev")]
    devices: PathBuf,
    /// The file that `prepare` wrote.
    #[arg(long, env = "FACTS", default_value = node::FACTS)]
    facts: PathBuf,
    /// The port of health and metrics.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The port at which virt-controller brings what users ask for.
    #[arg(long, default_value_t = 8186)]
    api_port: u16,
    /// The Secret with this side's certificate and the authority of virt-controller's. Not there:
    /// virt-controller is not served until it is.
    #[arg(long, default_value = "/etc/virt-handler/certificates")]
    certificates: PathBuf,
}

fn main() -> ExitCode {
    let Cli { rust_log, command } = Cli::parse();
    tracing_subscriber::registry()
        .with(fmt::layer().with_writer(std::io::stderr).with_target(false))
        .with(rust_log)
        .init();
    match act(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The alternate form has the causes in the same line.
            eprintln!("virt-handler: {error:#}");
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

fn act(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    match command {
        Command::Prepare(args) => {
            runtime.block_on(node::prepare(&args))?;
        }
        Command::Run(args) => {
            // kube's TLS asks for it; with two in the binary, rustls would not choose.
            rustls::crypto::ring::default_provider()
                .install_default()
                .map_err(|_| anyhow!("TLS is set up already"))?;
            runtime.block_on(run(args))?;
        }
    }
    Ok(())
}

async fn run(args: RunArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot take SIGINT")?;
    let facts = Facts::read(&args.facts)?;
    let mut config = Config::infer()
        .await
        .context("cannot find the API server")?;
    // One that takes calls and never answers is waited for by kube's default, for ever.
    config.read_timeout = Some(SILENCE);
    // It is counted from the call, not from when its connection was heard last.
    config.reset_reader_on_write = true;
    let client = Client::try_from(config).context("cannot call the API server")?;
    let probes = listener::listen(args.port)
        .await
        .with_context(|| format!("cannot listen at port {}", args.port))?;
    let api = listener::listen(args.api_port)
        .await
        .with_context(|| format!("cannot listen at port {}", args.api_port))?;
    let resources = devices::resources(&facts, &args.devices);
    let plugins = args.kubelet_dir.join("device-plugins");
    let registered = watch::Sender::new(false);
    let followed = launchers::Config {
        node: args.node_name.clone(),
        pods: args.kubelet_dir.join("pods"),
    };
    let launchers = Launchers::default();
    let scraper = Arc::new(metrics::Scraper::new(&args.node_name, &launchers));
    tracing::info!("serving the node {}", args.node_name);
    tokio::select! {
        () = launchers::follow(client.clone(), followed, launchers.clone()) => {}
        () = api::serve(api, args.certificates, launchers) => {}
        Err(error) = devices::offer(&plugins, &resources, &registered) => return Err(error.into()),
        _ = node::keep_labels(client, &args.node_name, &facts, registered.subscribe()) => {}
        () = server::serve(probes, registered.subscribe(), scraper, server::Limits::default()) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // What is on the node and in the API stays: a handler that ends is most often one that starts.
    tracing::info!("leaving; virtual machines go on");
    Ok(())
}

#[cfg(test)]
mod tests {
    use tracing::Level;
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn what_is_logged_is_info_and_what_is_said() {
        let cases = [
            ("", "hyper", LevelFilter::INFO),
            (" , ", "hyper", LevelFilter::INFO),
            ("warn", "hyper", LevelFilter::WARN),
            ("OFF", "hyper", LevelFilter::OFF),
            ("handler=debug", "handler::api", LevelFilter::DEBUG),
            ("handler=debug", "hyper", LevelFilter::INFO),
            ("warn, handler=trace,", "handler", LevelFilter::TRACE),
            ("warn, handler=trace,", "hyper", LevelFilter::WARN),
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
        let args = ["virt-handler", "prepare", "--rust-log", "handler=loud"];
        let Err(refused) = Cli::try_parse_from(args) else {
            panic!("it is taken");
        };
        let refused = refused.to_string();
        for part in ["--rust-log", "handler=loud", "debug"] {
            assert!(refused.contains(part), "{refused}");
        }
    }
}
