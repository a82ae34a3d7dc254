//! TCP between host and guest through each binding, against the same made by hand.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::{BOOT, Lab, eventually};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::network::run;
use crate::report::{Budget, Compared, Median, Row, Section};
use crate::subject::{By, Template, Vm};

/// Of each run.
const SECONDS: &str = "2";
/// The guest on the hand-made bridge.
const MAC: &str = "02:00:00:00:00:0b";

/// Short runs differ by more than the budget allows, so there are more of them.
const PAIRS_A_ROUND: usize = 2;

/// An emulated guest has been seen a third slower for minutes, and one boot must not stand for all.
const BOOTS: usize = 3;

/// How the guest is connected.
#[derive(Clone, Copy)]
enum Binding {
    Bridge,
    Masquerade,
}

impl Binding {
    fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Masquerade => "masquerade",
        }
    }

    fn peer(self) -> &'static str {
        match self {
            Self::Bridge => "bridge and tap",
            Self::Masquerade => "bridge, tap and nft",
        }
    }
}

/// Each binding, one after the other.
pub(crate) fn measure(rounds: usize) -> Section {
    let rows = [Binding::Bridge, Binding::Masquerade].map(|binding| compare(binding, rounds));
    Section {
        title: "Throughput of both bindings",
        command: "cargo bench -p e2e --bench promises -- throughput",
        rows: rows.into_iter().flatten().collect(),
        notes: include_str!("notes/throughput.md"),
    }
}

/// Megabits a second: of the host to the guest and back, each of ours and of the peer's.
type Figures = [[Vec<f64>; 2]; 2];

/// Both guests are up at once; they are measured in turns, and booted anew between some of these.
fn compare(binding: Binding, rounds: usize) -> impl Iterator<Item = Row> {
    let pairs = PAIRS_A_ROUND * rounds;
    let lab = Lab::new();
    let text = include_str!("iperf3.yaml").replace("BINDING", binding.name());
    let [ours, peers] = ["ours", "peers"].map(|name| {
        let path = lab.path().join(format!("{name}.yaml"));
        fs::write(&path, text.replace("NAME", name)).expect("the directory can be written");
        path
    });
    let template = Template::take(&lab, &ours).with_mac(MAC);
    let mut figures = Figures::default();
    for boot in 0..BOOTS {
        let ours = Vm::start(&lab, &ours, By::Ferrovirt, None);
        let peer = Peer::start(&lab, &peers, &template, binding);
        let addresses = [pod_address(ours.sandbox()), peer.address.clone()];
        // The first run waits for a guest that boots.
        for address in &addresses {
            iperf3(&lab, address, false);
        }
        for pair in pairs * boot / BOOTS..pairs * (boot + 1) / BOOTS {
            let name = binding.name();
            eprintln!("throughput, {name}: round {} of {pairs}", pair + 1);
            take_turns(&lab, &addresses, pair % 2 == 1, &mut figures);
        }
        peer.stop();
        ours.stop();
    }
    let directions = ["host to guest", "guest to host"].into_iter().zip(figures);
    directions.map(move |(direction, [ours, peers])| Row {
        what: format!("{}, TCP, {direction}", binding.name()),
        unit: "Mbit/s",
        ours: Median::of(ours.iter().copied()),
        peer: Some((binding.peer(), Median::of(peers.iter().copied()))),
        compared: Some(Compared {
            how: "ratio",
            unit: "%",
            value: Median::of_ratios(&ours, &peers),
        }),
        budget: Some(Budget::AtLeast(98.0)),
    })
}

/// Each direction once for ours and the peer's, whose addresses these are.
fn take_turns(lab: &Lab, addresses: &[String; 2], reversed: bool, figures: &mut Figures) {
    for (direction, figures) in figures.iter_mut().enumerate() {
        let mut both = [0, 1];
        if reversed {
            both.reverse();
        }
        for of in both {
            figures[of].push(iperf3(lab, &addresses[of], direction == 1));
        }
    }
}

/// The VM behind a bridge and a tap made with `ip`.
struct Peer {
    vm: Vm,
    dnsmasq: Dnsmasq,
    address: String,
}

/// Ends with its owner.
struct Dnsmasq(Child);

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peer {
    fn start(lab: &Lab, manifest: &Path, template: &Template, binding: Binding) -> Self {
        let vm = Vm::prepare(lab, manifest, By::Hand);
        let netns = vm.sandbox().join("netns");
        let state = vm.sandbox().join("network/eth0.json");
        // init has bound it, for the stand-in; as CNI made it again.
        let mut netbind = inside(&netns, e2e::program("netbind"));
        run(netbind.args(["teardown", "--state"]).arg(state));
        let ip = |arguments: &str| {
            for line in arguments.lines() {
                run(inside(&netns, "ip").args(line.split_whitespace()));
            }
        };
        let address = pod_address(vm.sandbox());
        ip("link add br0 type bridge stp_state 0
            tuntap add tap0 mode tap user 107 group 107 vnet_hdr
            link set tap0 master br0 up
            link set br0 up");
        // dnsmasq serves where it has an address.
        let leased = match binding {
            Binding::Bridge => {
                ip("addr flush dev eth0
                    link set eth0 master br0 up");
                let (network, _) = address.rsplit_once('.').expect("it is an IPv4 address");
                ip(&format!("addr add {network}.254/24 dev br0"));
                address.clone()
            }
            Binding::Masquerade => {
                ip("addr add 10.0.2.1/24 dev br0");
                let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
                run(inside(&netns, "sh").args(["-c", forward]));
                run(inside(&netns, "nft").arg(include_str!("masquerade.nft")));
                "10.0.2.2".to_owned()
            }
        };
        let dnsmasq = inside(&netns, "dnsmasq")
            .args([
                "--no-daemon",
                "--conf-file=/dev/null",
                "--user=root",
                "--port=0",
                "--no-ping",
            ])
            .args([
                "--interface=br0",
                "--except-interface=lo",
                "--bind-interfaces",
                "--leasefile-ro",
            ])
            .arg(format!("--dhcp-range={leased},{leased},24h"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is installed");
        let dnsmasq = Dnsmasq(dnsmasq);
        let vm = vm.begin(template);
        Self {
            vm,
            dnsmasq,
            address,
        }
    }

    fn stop(self) {
        drop(self.dnsmasq);
        self.vm.stop();
    }
}

/// A command in a pod's network namespace.
#[expect(
    unsafe_code,
    reason = "a child enters the namespace between fork and exec"
)]
fn inside(netns: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let netns = File::open(netns).expect("the sandbox keeps its namespace");
    let mut command = Command::new(program);
    // SAFETY: one system call on a descriptor that was opened before the fork.
    unsafe {
        command.pre_exec(move || setns(&netns, CloneFlags::CLONE_NEWNET).map_err(io::Error::from))
    };
    command
}

/// The pod's IPv4 address, which leads to its guest in each binding.
fn pod_address(sandbox: &Path) -> String {
    let mut ip = inside(&sandbox.join("netns"), "ip");
    let text = run(ip.args(["-j", "-4", "addr", "show", "eth0"]));
    let links: Value = serde_json::from_str(&text).expect("ip writes JSON");
    let address = links[0]["addr_info"][0]["local"].as_str();
    address.expect("CNI gave one").to_owned()
}

/// Megabits a second, as the receiver counts them; waits for a guest that boots.
fn iperf3(lab: &Lab, address: &str, from_guest: bool) -> f64 {
    eventually(&format!("iperf3 at {address}"), 2 * BOOT, || {
        let mut command = lab.command("iperf3");
        command.args(["--json", "--connect-timeout", "1000", "--time", SECONDS]);
        // A guest that dies must not keep the client waiting.
        command.args(match from_guest {
            true => ["--reverse", "--rcv-timeout", "5000"].as_slice(),
            false => &["--snd-timeout", "5000"],
        });
        command.args(["--client", address]);
        let output = command.output().expect("iperf3 is installed");
        let result: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(result["end"]["sum_received"]["bits_per_second"].as_f64()? / 1e6)
    })
}
