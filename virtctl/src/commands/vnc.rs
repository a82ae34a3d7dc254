//! `vnc` and `screenshot`: a machine's screen.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Global;
use crate::forward::Reference;
use crate::terminal::Signals;
use crate::vnc::Proxy;
use crate::vnc::viewer::{self, Type};
use crate::web;

/// Arguments of `vnc`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    long_about = "Show a machine's screen, in a VNC viewer of this machine or in the browser.\n\n\
        A new session ends the one before it, unless --preserve-session is given. Whoever reaches \
        --address and --port has the screen and the keyboard.",
    after_help = "Examples:\n  \
        virtctl vnc demo\n  \
        virtctl vnc demo --web\n  \
        virtctl vnc demo --proxy-only --port 5900\n  \
        virtctl vnc demo --vnc-type tiger --vnc-path /opt/tigervnc/vncviewer"
)]
pub struct Vnc {
    #[command(subcommand)]
    command: Option<VncCommand>,
    /// The machine: NAME, vm/NAME or vm/NAME/NAMESPACE.
    #[arg(required = true)]
    name: Option<Reference>,
    /// Start no viewer: print the port, as {"port": PORT}, and serve viewers until Ctrl-C.
    #[arg(long)]
    proxy_only: bool,
    /// Show the screen and the serial console in the browser.
    #[arg(long, conflicts_with_all = ["proxy_only", "vnc_type", "vnc_path"])]
    web: bool,
    /// With --web, print the page's address and leave the browser to you.
    #[arg(long, requires = "web")]
    no_browser: bool,
    /// The local port; 0 is any that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The address of this machine to listen at.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Which viewer to start. Default: the first that is installed.
    #[arg(long, value_enum, value_name = "TYPE")]
    vnc_type: Option<Type>,
    /// The viewer's file.
    #[arg(long, value_name = "FILE")]
    vnc_path: Option<PathBuf>,
    /// Fail if somebody else has a session, instead of ending it.
    #[arg(long)]
    preserve_session: bool,
}

#[derive(Debug, Subcommand)]
enum VncCommand {
    /// The same as `virtctl screenshot`.
    Screenshot(Screenshot),
}

impl Vnc {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        if let Some(VncCommand::Screenshot(args)) = self.command {
            return args.run(global).await;
        }
        let Some(name) = self.name else {
            bail!("no machine is named; give its NAME");
        };
        let target = name.target(global).await?;
        let mut signals = Signals::new().context("cannot wait for signals")?;
        let address = SocketAddr::new(self.address, self.port);
        if self.web {
            let options = web::Options {
                address,
                browser: !self.no_browser,
                preserve_session: self.preserve_session,
            };
            tokio::select! {
                served = web::serve(target, &options) => served?,
                _ = signals.next() => {}
            }
            return Ok(ExitCode::SUCCESS);
        }
        let proxy = Proxy::open(target, self.preserve_session, address).await?;
        if self.proxy_only {
            let port = json!({"port": proxy.address().port()});
            writeln!(std::io::stdout(), "{port}").context("cannot write to standard output")?;
            tokio::select! {
                () = proxy.serve() => {}
                _ = signals.next() => {}
            }
            return Ok(ExitCode::SUCCESS);
        }
        let viewers = viewer::candidates(self.vnc_type, self.vnc_path.as_deref());
        let mut viewer = viewer::start(&viewers, proxy.address())?;
        let ended = tokio::select! {
            () = proxy.serve() => return Ok(ExitCode::SUCCESS),
            _ = signals.next() => return Ok(ExitCode::SUCCESS),
            ended = viewer.wait() => ended.context("cannot wait for the viewer")?,
        };
        if !ended.success() {
            bail!("the viewer failed: {ended}; --vnc-type and --vnc-path choose another");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `screenshot`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl screenshot demo -f demo.png\n  \
    virtctl screenshot demo -f - | display")]
pub struct Screenshot {
    /// The machine: NAME, vm/NAME or vm/NAME/NAMESPACE.
    name: Reference,
    /// Where to put the picture, a PNG; - is standard output.
    #[arg(short, long)]
    file: PathBuf,
    /// Move the pointer first, so that a screen that sleeps wakes up.
    #[arg(short, long)]
    move_cursor: bool,
}

impl Screenshot {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let target = self.name.target(global).await?;
        let picture = target.screenshot(self.move_cursor).await?;
        if self.file.as_os_str() == "-" {
            let mut stdout = std::io::stdout().lock();
            let written = stdout.write_all(&picture).and_then(|()| stdout.flush());
            written.context("cannot write to standard output")?;
        } else {
            std::fs::write(&self.file, &picture)
                .with_context(|| format!("cannot write {}", self.file.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
