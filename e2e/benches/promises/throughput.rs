//! TCP between host and guest through bridge binding, against a hand-made bridge and tap.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
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

/// Both guests are up at once; they are measured in turns.
pub(crate) fn measure(rounds: usize) -> Section {
    let rounds = PAIRS_A_ROUND * rounds;
    let lab = Lab::new();
    let text = include_str!("iperf3.yaml");
    let [ours, peers] = ["ours", "peers"].map(|name| {
        let path = lab.path().join(format!("{name}.yaml"));
        fs::write(&path, text.replace("NAME", name)).expect("the directory can be written");
        path
    });
    let template = Template::take(&lab, &ours).with_mac(MAC);
    let ours = Vm::start(&lab, &ours, By::Ferrovirt, None);
    let address = address(&ours);
    let peer = Peer::start(&lab, peers, &template);
    for address in [&address, &peer.address] {
        iperf3(&lab, address, false);
    }
    let mut figures = [[vec![], vec![]], [vec![], vec![]]];
    for round in 0..rounds {
        eprintln!("throughput: round {} of {rounds}", round + 1);
        for (direction, [ours, peers]) in figures.iter_mut().enumerate() {
            let mut turns = [(&address, ours), (&peer.address, peers)];
            if round % 2 == 1 {
                turns.reverse();
            }
            for (address, figures) in turns {
                figures.push(iperf3(&lab, address, direction == 1));
            }
        }
    }
    peer.stop();
    ours.stop();
    let rows = ["host to guest", "guest to host"].into_iter().zip(&figures);
    let rows = rows.map(|(direction, [ours, peers])| Row {
        what: format!("TCP, {direction}"),
        unit: "Mbit/s",
        ours: Median::of(ours.iter().copied()),
        peer: Some(("bridge and tap", Median::of(peers.iter().copied()))),
        compared: Some(Compared {
            how: "ratio",
            unit: "%",
            value: Median::of_ratios(ours, peers),
        }),
        budget: Some(Budget::AtLeast(98.0)),
    });
    Section {
        title: "Throughput of bridge binding",
        command: "cargo bench -p e2e --bench promises -- throughput",
        rows: rows.collect(),
        notes: include_str!("notes/throughput.md"),
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
    fn start(lab: &Lab, manifest: PathBuf, template: &Template) -> Self {
        let vm = Vm::prepare(lab, &manifest, By::Hand);
        let netns = vm.sandbox().join("netns");
        let state = vm.sandbox().join("network.json");
        // init has bound it, for the stand-in; as CNI made it again.
        let mut netbind = inside(&netns, e2e::program("netbind"));
        run(netbind.args(["teardown", "--state"]).arg(state));
        let ip = |arguments: &str| run(inside(&netns, "ip").args(arguments.split_whitespace()));
        let addresses: Value =
            serde_json::from_str(&ip("-j -4 addr show eth0")).expect("ip writes JSON");
        let address = &addresses[0]["addr_info"][0];
        let (address, prefix) = (
            address["local"].as_str().expect("CNI gave one"),
            &address["prefixlen"],
        );
        ip("addr flush dev eth0");
        ip("link add br0 type bridge stp_state 0");
        ip("tuntap add tap0 mode tap user 107 group 107 vnet_hdr");
        for port in ["eth0", "tap0"] {
            ip(&format!("link set {port} master br0 up"));
        }
        ip("link set br0 up");
        // dnsmasq serves where it has an address.
        let (network, _) = address.rsplit_once('.').expect("it is an IPv4 address");
        ip(&format!("addr add {network}.254/{prefix} dev br0"));
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
            .arg(format!("--dhcp-range={address},{address},24h"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is installed");
        let dnsmasq = Dnsmasq(dnsmasq);
        let address = address.to_owned();
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
fn inside(netns: &std::path::Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let netns = File::open(netns).expect("the sandbox keeps its namespace");
    let mut command = Command::new(program);
    // SAFETY: one system call on a descriptor that was opened before the fork.
    unsafe {
        command.pre_exec(move || setns(&netns, CloneFlags::CLONE_NEWNET).map_err(io::Error::from))
    };
    command
}

/// The guest's address, as init wrote it down for the worker.
fn address(vm: &Vm) -> String {
    let text = fs::read(vm.runtime().join("network/default.json")).expect("the pod has a network");
    let network: netbind::GuestNetwork = serde_json::from_slice(&text).expect("init wrote it");
    network.lease.address.addr().to_string()
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
