//! `port-forward`: ports of the guest on this machine.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::cli::Global;
use crate::forward::{Forward, Reference, tcp, udp};
use crate::stream::{Protocol, Stream};
use crate::target::Target;
use crate::terminal::Signals;

/// Arguments of `port-forward`.
#[derive(Debug, Args)]
#[command(
    long_about = "Forward ports of this machine to ports of a guest.\n\n\
        PORT is [LOCAL:]REMOTE, with /udp behind it, or udp/ before it, for datagrams; :REMOTE \
        takes a free port. All traffic goes through the Kubernetes API server: for much of it, use \
        `virtctl expose`. It ends with Ctrl-C.",
    after_help = "Examples:\n  \
        virtctl port-forward demo 8080:80\n  \
        virtctl port-forward vm/demo/lab :80 5353:53/udp\n  \
        ssh -o 'ProxyCommand=virtctl port-forward --stdio=true vm/demo/lab 22' root@demo"
)]
pub struct PortForward {
    /// The machine: NAME, vm/NAME or vm/NAME/NAMESPACE.
    #[arg(value_parser = Reference::dotted)]
    name: Reference,
    /// The ports.
    #[arg(required = true, value_name = "PORT")]
    ports: Vec<Forward>,
    /// Addresses of this machine to listen at, separated by commas. Whoever reaches one of them
    /// reaches the guest.
    #[arg(long, value_delimiter = ',', value_parser = address, default_value = "127.0.0.1")]
    address: Vec<IpAddr>,
    /// Forward standard input and output, instead of a port of this machine.
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "false"
    )]
    stdio: bool,
}

impl PortForward {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        if !self.stdio {
            let target = self.name.target(global).await?;
            serve(&target, &self.ports, &self.address).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let &[
            Forward {
                remote,
                protocol: Protocol::Tcp,
                ..
            },
        ] = self.ports.as_slice()
        else {
            bail!("--stdio forwards one port, and that of TCP; name one only");
        };
        let target = self.name.target(global).await?;
        let stream = target.open(port(remote, Protocol::Tcp)).await?;
        tcp::join(tokio::io::stdin(), tokio::io::stdout(), stream)
            .await
            .with_context(|| format!("the stream to port {remote} of {} broke", target.name()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Serves until a signal ends it.
async fn serve(target: &Target, ports: &[Forward], addresses: &[IpAddr]) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let mut serving = JoinSet::new();
    for forward in ports {
        let stream = port(forward.remote, forward.protocol);
        for &address in addresses {
            let address = SocketAddr::new(address, forward.local);
            let open = {
                let target = target.clone();
                move || {
                    let target = target.clone();
                    async move { target.open(stream).await }
                }
            };
            let failed = || {
                format!(
                    "cannot listen on {address}; choose another local port, as in 8080:{forward}"
                )
            };
            let bound = match forward.protocol {
                Protocol::Tcp => {
                    let listener = TcpListener::bind(address).await.with_context(failed)?;
                    let bound = listener.local_addr();
                    serving.spawn(tcp::serve(listener, open));
                    bound
                }
                Protocol::Udp => {
                    let socket = UdpSocket::bind(address).await.with_context(failed)?;
                    let bound = socket.local_addr();
                    serving.spawn(udp::serve(socket, open));
                    bound
                }
            };
            let bound = bound.with_context(failed)?;
            writeln!(io::stdout(), "Forwarding from {bound} -> {forward}")
                .context("cannot write to standard output")?;
        }
    }
    signals.next().await;
    Ok(())
}

fn port(port: u16, protocol: Protocol) -> Stream {
    Stream::Port { port, protocol }
}

fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        text => text
            .parse()
            .map_err(|_| "it is no IP address, such as 127.0.0.1, ::1 or 0.0.0.0".to_owned()),
    }
}
