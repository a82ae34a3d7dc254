//! Shows any pod's network, what would be done to it, and does it.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::{Ipv4Net, Ipv6Net};
use netbind::{
    Binding, DhcpOptions, Event, Expect, GuestNetwork, Mac, Masquerade, PodNetwork, Port, Protocol,
    SetupOptions, State, Step, TapOptions, TeardownOptions,
};
use nix::sched::{CloneFlags, setns};
use serde::Serialize;

/// Binds a pod's network to a guest: discover, plan, set up, serve DHCP, tear down.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Enter this network namespace first (/var/run/netns/NAME or /proc/PID/ns/net).
    #[arg(long, global = true, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Show the pod's network as the CNI plugin left it.
    Discover {
        /// The pod's interface.
        #[arg(long, default_value = "eth0")]
        interface: String,
        #[command(flatten)]
        expected: Expected,
    },
    /// Show what setup would do, changing nothing.
    Plan(Setup),
    /// Bind the pod's network to a guest. Safe to run again.
    Setup(Setup),
    /// Serve DHCP to the guest until the process is ended.
    Serve {
        /// The state file that setup wrote.
        #[arg(long, value_name = "FILE")]
        state: PathBuf,
    },
    /// Take back what setup did.
    Teardown {
        /// The state file that setup wrote.
        #[arg(long, value_name = "FILE")]
        state: PathBuf,
    },
}

#[derive(Args)]
struct Expected {
    /// Seconds to wait until the interface is up and its addresses are free of doubt; 0 looks once.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    timeout: u32,
    /// An address to wait for as well, such as one of SLAAC; can be given again.
    #[arg(long = "expect", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
}

impl From<Expected> for Expect {
    fn from(args: Expected) -> Self {
        Self {
            timeout: Duration::from_secs(args.timeout.into()),
            addresses: args.addresses,
        }
    }
}

#[derive(Args)]
struct Setup {
    /// The pod's interface.
    #[arg(long, default_value = "eth0")]
    interface: String,
    #[command(flatten)]
    expected: Expected,
    /// How to connect the guest.
    #[arg(long, value_enum, default_value_t = BindingKind::Bridge)]
    binding: BindingKind,
    /// Let the guest send from any address and MAC (bridge binding).
    #[arg(long)]
    no_anti_spoofing: bool,
    /// The guest's IPv4 network (masquerade binding).
    #[arg(long, value_name = "CIDR", default_value_t = Masquerade::default().ipv4)]
    vm_network_cidr: Ipv4Net,
    /// The guest's IPv6 network (masquerade binding).
    #[arg(long, value_name = "CIDR", default_value_t = Masquerade::default().ipv6)]
    vm_ipv6_network_cidr: Ipv6Net,
    /// A port that the guest serves (masquerade binding); can be given again. All without it.
    #[arg(long = "port", value_name = "[tcp:|udp:]NUMBER", value_parser = port)]
    ports: Vec<Port>,
    /// Where to keep what was found.
    #[arg(long, value_name = "FILE", default_value = "/run/netbind.json")]
    state: PathBuf,
    /// Name of the tap device for QEMU.
    #[arg(long, default_value = "tap0")]
    tap: String,
    /// User id that may open the tap.
    #[arg(long, default_value_t = 0)]
    tap_owner: u32,
    /// Group id that may open the tap.
    #[arg(long, default_value_t = 0)]
    tap_group: u32,
    /// Make the tap with more than one queue.
    #[arg(long)]
    multi_queue: bool,
    /// Where the guest's name servers and search domains come from.
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// The guest's MAC, if it is not to be the pod's.
    #[arg(long, value_name = "MAC")]
    guest_mac: Option<Mac>,
    /// The guest's host name (option 12).
    #[arg(long)]
    hostname: Option<String>,
    /// Seconds until the lease ends (option 51).
    #[arg(long, default_value_t = netbind::dhcp::LEASE_SECONDS)]
    lease_seconds: u32,
    /// The server's identifier (option 54) in bridge binding; interfaces of one guest need
    /// different ones.
    #[arg(long, value_name = "ADDRESS", default_value_t = netbind::dhcp::SERVER_ID)]
    server_id: Ipv4Addr,
    /// Boot file name (option 67).
    #[arg(long)]
    boot_file_name: Option<String>,
    /// TFTP server name (option 66).
    #[arg(long)]
    tftp_server_name: Option<String>,
    /// A time server (DHCP's option 42, DHCPv6's 31 and 56); can be given again.
    #[arg(long = "ntp-server", value_name = "ADDRESS")]
    ntp_servers: Vec<IpAddr>,
    /// A private option, 224 to 254; can be given again.
    #[arg(long = "private-option", value_name = "NUMBER=VALUE", value_parser = private_option)]
    private: Vec<(u8, String)>,
}

#[derive(Clone, Copy, ValueEnum)]
enum BindingKind {
    /// The guest takes over the pod's addresses and MAC.
    Bridge,
    /// The guest has a network of its own behind the pod's addresses.
    Masquerade,
}

fn port(text: &str) -> Result<Port, String> {
    let (protocol, number) = match text.split_once(':') {
        None => (Protocol::Tcp, text),
        Some(("tcp", number)) => (Protocol::Tcp, number),
        Some(("udp", number)) => (Protocol::Udp, number),
        Some((other, _)) => return Err(format!("{other:?} is not a protocol; use tcp or udp")),
    };
    match number.parse() {
        Ok(port @ 1..) => Ok(Port { protocol, port }),
        _ => Err(format!("{number:?} is not a port; use 1 to 65535")),
    }
}

fn private_option(text: &str) -> Result<(u8, String), String> {
    let (code, value) = text.split_once('=').ok_or("write NUMBER=VALUE")?;
    let code = code
        .parse()
        .map_err(|_| format!("{code:?} is not an option number; use 224 to 254"))?;
    Ok((code, value.to_owned()))
}

impl From<Setup> for SetupOptions {
    fn from(args: Setup) -> Self {
        let binding = match args.binding {
            BindingKind::Bridge => Binding::Bridge {
                anti_spoofing: !args.no_anti_spoofing,
            },
            BindingKind::Masquerade => Binding::Masquerade(Masquerade {
                ipv4: args.vm_network_cidr,
                ipv6: args.vm_ipv6_network_cidr,
                ports: args.ports,
            }),
        };
        Self {
            interface: args.interface,
            expect: args.expected.into(),
            binding,
            state_file: args.state,
            tap: TapOptions {
                name: args.tap,
                owner: args.tap_owner,
                group: args.tap_group,
                multi_queue: args.multi_queue,
            },
            resolv_conf: args.resolv_conf,
            hostname: args.hostname,
            dhcp: DhcpOptions {
                client: args.guest_mac,
                lease_seconds: args.lease_seconds,
                boot_file_name: args.boot_file_name,
                tftp_server_name: args.tftp_server_name,
                ntp_servers: args.ntp_servers,
                private: args.private.into_iter().collect(),
                server_id: args.server_id,
            },
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netbind: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    if let Some(path) = &cli.netns {
        let shown = path.display();
        let namespace = File::open(path)
            .with_context(|| format!("cannot open the network namespace {shown}"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).with_context(|| {
            format!("cannot enter the network namespace {shown} (root is needed)")
        })?;
    }
    match cli.command {
        Command::Discover {
            interface,
            expected,
        } => {
            let network = netbind::discover(&interface, &expected.into())?;
            if cli.json {
                print_json(&network)
            } else {
                print_network(&network)
            }
        }
        Command::Plan(args) => {
            let (_, plan) = netbind::preview(&args.into())?;
            if cli.json {
                return print_json(&plan);
            }
            for step in &plan.steps {
                writeln!(io::stdout(), "{}", describe(step))?;
            }
            print_guest(&plan.guest)
        }
        Command::Setup(args) => setup(args.into(), cli.json),
        Command::Serve { state } => serve(&state, cli.json),
        Command::Teardown { state } => {
            let started = Instant::now();
            netbind::teardown(&TeardownOptions { state_file: state })?;
            if cli.json {
                return print_json(&serde_json::json!({ "micros": started.elapsed().as_micros() }));
            }
            Ok(())
        }
    }
}

/// What `setup --json` prints.
#[derive(Serialize)]
struct Done {
    /// Time for discover, plan, state file and apply together.
    micros: u128,
    guest: GuestNetwork,
}

fn setup(options: SetupOptions, json: bool) -> Result<()> {
    let started = Instant::now();
    let guest = netbind::setup(&options)?;
    let micros = started.elapsed().as_micros();
    if json {
        print_json(&Done { micros, guest })
    } else {
        print_guest(&guest)
    }
}

fn serve(state: &Path, json: bool) -> Result<()> {
    let Some(state_read) = State::read(state)? else {
        bail!(
            "there is no state file {}; run netbind setup first",
            state.display()
        );
    };
    let guest = state_read.guest;
    let sockets = netbind::serve::open(&guest).with_context(|| {
        format!(
            "cannot open a packet socket on {} (CAP_NET_RAW is needed)",
            guest.tap
        )
    })?;
    // Nothing ever writes to it: the process serves until it is ended.
    let (stop, _keep_open) = nix::unistd::pipe().context("cannot make a pipe")?;
    netbind::serve::Server::new(sockets, &guest)
        .run(stop.as_fd(), |event| {
            // Whoever read our output is gone; the guest still needs its lease.
            let _ = print_event(&event, json);
        })
        .context("cannot wait for the guest's packets")
}

fn print_event(event: &Event, json: bool) -> Result<()> {
    let mut out = io::stdout();
    if json {
        serde_json::to_writer(&mut out, event)?;
        return Ok(writeln!(out)?);
    }
    match event {
        Event::Offered { client, address } => writeln!(out, "offered {address} to {client}")?,
        Event::Acked { client, address } => writeln!(out, "{client} holds {address}")?,
        Event::Naked { client, requested } => writeln!(out, "refused {requested} to {client}")?,
        Event::Informed { client, address } => writeln!(out, "informed {client} at {address}")?,
        Event::Released { client, address } => writeln!(out, "{client} gave {address} back")?,
        Event::Declined { client, address } => {
            writeln!(
                out,
                "warning: {client} found {address} in use by another station"
            )?;
        }
        Event::Warning { message } => writeln!(out, "warning: {message}")?,
    }
    Ok(())
}

fn print_json(value: &impl Serialize) -> Result<()> {
    let mut out = io::stdout();
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(writeln!(out)?)
}

fn print_network(network: &PodNetwork) -> Result<()> {
    let mut out = io::stdout();
    let kind = network.kind.as_deref().unwrap_or("hardware");
    writeln!(
        out,
        "interface  {} ({kind}), MAC {}, MTU {}",
        network.interface, network.mac, network.mtu
    )?;
    for address in &network.addresses {
        writeln!(out, "address    {}", address.net)?;
    }
    for route in &network.routes {
        write!(out, "route      {}", route.destination)?;
        match route.gateway {
            Some(gateway) => write!(out, " via {gateway}")?,
            None => write!(out, " on link")?,
        }
        if let Some(metric) = route.metric {
            write!(out, " metric {metric}")?;
        }
        if let Some(mtu) = route.mtu {
            write!(out, " MTU {mtu}")?;
        }
        if route.table != netbind::MAIN_TABLE {
            write!(out, " table {}", route.table)?;
        }
        writeln!(out)?;
    }
    for neighbour in &network.neighbours {
        writeln!(out, "neighbour  {} at {}", neighbour.address, neighbour.mac)?;
    }
    Ok(())
}

fn print_guest(guest: &GuestNetwork) -> Result<()> {
    let mut out = io::stdout();
    writeln!(
        out,
        "guest      behind {}, MAC {}, MTU {}",
        guest.tap, guest.mac, guest.mtu
    )?;
    if let Some(lease) = &guest.lease {
        writeln!(out, "address    {}", lease.address)?;
        if let Some(router) = lease.router {
            writeln!(out, "router     {router}")?;
        }
        for route in &lease.routes {
            writeln!(out, "route      {} via {}", route.destination, route.router)?;
        }
        for server in &lease.dns {
            writeln!(out, "dns        {server}")?;
        }
    }
    if let Some(ipv6) = &guest.ipv6 {
        for address in &ipv6.addresses {
            writeln!(out, "address    {address}")?;
        }
        if ipv6.router.default {
            writeln!(out, "router     {}", ipv6.router.address)?;
        }
        for net in &ipv6.on_link {
            writeln!(out, "route      {net} on link")?;
        }
        for net in &ipv6.routes {
            writeln!(out, "route      {net} via {}", ipv6.router.address)?;
        }
        for server in &ipv6.dns {
            writeln!(out, "dns        {server}")?;
        }
    }
    let search = guest.lease.as_ref().map(|lease| &lease.search);
    let search = search.or(guest.ipv6.as_ref().map(|ipv6| &ipv6.search));
    if let Some(search) = search.filter(|search| !search.is_empty()) {
        writeln!(out, "search     {}", search.join(" "))?;
    }
    for warning in &guest.warnings {
        writeln!(out, "warning    {warning}")?;
    }
    Ok(())
}

fn describe(step: &Step) -> String {
    match step {
        Step::BypassIptables(_) => {
            "keep bridged frames out of iptables, where that can be set".to_owned()
        }
        Step::CreateBridge { name, mac, mtu } => {
            format!("make the bridge {name}, MAC {mac}, MTU {mtu}")
        }
        Step::SilenceIpv6 { link } => format!("keep IPv6 addresses off {link}"),
        Step::Filter(filter) => {
            let mut what = format!(
                "make the nftables table bridge {}: no server or router behind {}",
                filter.table, filter.tap
            );
            if let Some(interface) = &filter.interface {
                what.push_str(&format!(
                    ", no frames to the pod itself, none from {} back in by {interface}",
                    filter.guest
                ));
            }
            if filter.served {
                what.push_str(", no DHCP and no router discovery across");
            }
            if filter.allowed.is_some() {
                what.push_str(", only the guest's own addresses from the tap");
            }
            what
        }
        Step::Nat(nat) => format!(
            "make the nftables table inet {}: translate between {} and {}",
            nat.table, nat.bridge, nat.interface
        ),
        Step::Address { link, net } => format!("give {link} the address {net}"),
        Step::Forward {
            interface,
            bridge,
            ipv4,
            ipv6,
        } => {
            let families = match (ipv4, ipv6) {
                (true, true) => "IPv4 and IPv6",
                (false, true) => "IPv6",
                _ => "IPv4",
            };
            format!("forward {families} between {interface} and {bridge}")
        }
        Step::CreateTap(tap) => {
            format!(
                "make the tap {} for user {} and group {}",
                tap.name, tap.owner, tap.group
            )
        }
        Step::ConfigureTap { name, mac, mtu } => format!("set {name} to MAC {mac}, MTU {mtu}"),
        Step::Up { link } => format!("bring up {link}"),
        Step::Attach { link, bridge } => format!("attach {link} to {bridge}"),
        Step::StopLearning { port } => format!("stop address learning on {port}"),
        Step::Hairpin { port } => format!("let {port} send back what entered by it"),
        Step::PinGuest { mac, port } => format!("pin {mac} to {port}"),
    }
}
