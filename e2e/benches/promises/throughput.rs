//! TCP between host and guest through each binding, against the same made by hand.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{BOOT, Lab, eventually};
use netbind::{GuestNetwork, State};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::network::run;
use crate::report::{Budget, Compared, Median, Row, Section};
use crate::subject::{By, Vm};

/// Of each run.
const SECONDS: &str = "2";

/// Short runs differ by more than the budget allows, so there are more of them.
const PAIRS_A_ROUND: usize = 3;

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
            Self::Bridge => "bridge by hand",
            Self::Masquerade => "bridge and nft by hand",
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

/// One guest is measured in turns behind ours and the peer's: of two emulated guests either has been
/// slower by a third for minutes, whoever connected it.
fn compare(binding: Binding, rounds: usize) -> impl Iterator<Item = Row> {
    let pairs = PAIRS_A_ROUND * rounds;
    let lab = Lab::new();
    let manifest = lab.path().join("iperf3.yaml");
    let text = include_str!("iperf3.yaml").replace("BINDING", binding.name());
    fs::write(&manifest, text).expect("the directory can be written");
    let vm = Vm::start(&lab, &manifest, By::Ferrovirt, None);
    let mut pod = Pod::new(&lab, vm.sandbox(), binding);
    // The first run waits for a guest that boots, and for links that come up.
    iperf3(&lab, &pod.address, false);
    pod.made = pod.look();
    let mut figures = Figures::default();
    for pair in 0..pairs {
        let name = binding.name();
        eprintln!("throughput, {name}: round {} of {pairs}", pair + 1);
        take_turns(&lab, &pod, pair % 2 == 1, &mut figures);
    }
    pod.ours();
    vm.stop();
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

/// Each direction once behind ours and once behind the peer's.
fn take_turns(lab: &Lab, pod: &Pod, reversed: bool, figures: &mut Figures) {
    let connect: [fn(&Pod); 2] = [Pod::ours, Pod::by_hand];
    let mut both = [0, 1];
    if reversed {
        both.reverse();
    }
    for of in both {
        connect[of](pod);
        for (direction, figures) in figures.iter_mut().enumerate() {
            figures[of].push(iperf3(lab, &pod.address, direction == 1));
        }
    }
}

/// A running guest's pod, whose tap can be connected by hand and by ours again.
struct Pod {
    netns: PathBuf,
    binding: Binding,
    /// IPv4, which leads to the guest in each binding.
    address: String,
    /// Names and MACs.
    guest: GuestNetwork,
    /// A copy of the state, for the set-up that is run again.
    state: PathBuf,
    /// What [`Pod::look`] saw of what init made.
    made: [String; 3],
}

impl Pod {
    fn new(lab: &Lab, sandbox: &Path, binding: Binding) -> Self {
        let state = lab.path().join("state.json");
        fs::copy(sandbox.join("network/eth0.json"), &state).expect("init has bound it");
        let known = State::read(&state).expect("netbind wrote it");
        let State { network, guest, .. } = known.expect("it was just copied");
        let mut addresses = network.addresses.iter().map(|address| address.net.addr());
        let address = addresses.find(IpAddr::is_ipv4);
        Self {
            netns: sandbox.join("netns"),
            binding,
            address: address.expect("CNI gave one").to_string(),
            guest,
            state,
            made: Default::default(),
        }
    }

    /// The packet filter without the addresses that it has learned, the bridge's ports with their
    /// settings, and whom the bridge was told to find behind which.
    fn look(&self) -> [String; 3] {
        let nft = run(inside(&self.netns, "nft").args(["--terse", "list", "ruleset"]));
        let bridge =
            |arguments: &str| run(inside(&self.netns, "bridge").args(arguments.split(' ')));
        [nft, bridge("-d link"), bridge("fdb show state static")]
    }

    fn ip(&self, arguments: &str) -> String {
        run(inside(&self.netns, "ip").args(arguments.split_whitespace()))
    }

    fn is_by_hand(&self) -> bool {
        self.ip("-brief link").contains("br0 ")
    }

    /// Connects the guest as `ip` and `nft` would: without our filter, translation and settings of the
    /// bridge. The server's socket stays on the tap.
    fn by_hand(&self) {
        if self.is_by_hand() {
            return;
        }
        let GuestNetwork {
            bridge,
            tap,
            interface,
            server_mac,
            ..
        } = &self.guest;
        run(inside(&self.netns, "nft").args(["flush", "ruleset"]));
        // The guest knows its router by this MAC.
        self.ip(&format!(
            "link add br0 address {server_mac} type bridge stp_state 0"
        ));
        self.ip(&format!("link set {tap} master br0"));
        match self.binding {
            Binding::Bridge => {
                // The pod's interface keeps the address, for which the guest alone is to answer.
                self.ip("link set br0 arp off");
                self.ip(&format!("link set {interface} master br0"));
                // It has the guest's MAC as well, which is to be found behind the tap.
                let fdb = format!("fdb delete {} dev {interface} master", self.guest.mac);
                run(inside(&self.netns, "bridge").args(fdb.split(' ')));
            }
            Binding::Masquerade => {
                self.ip(&format!("address delete 10.0.2.1/24 dev {bridge}"));
                self.ip("address add 10.0.2.1/24 dev br0");
                let forward = "net.ipv4.conf.br0.forwarding=1";
                run(inside(&self.netns, "sysctl").args(["-w", forward]));
                run(inside(&self.netns, "nft").arg(include_str!("masquerade.nft")));
            }
        }
        self.ip("link set br0 up");
    }

    /// Connects the guest as init did.
    fn ours(&self) {
        if !self.is_by_hand() {
            return;
        }
        self.ip("link delete br0");
        run(inside(&self.netns, "nft").args(["flush", "ruleset"]));
        let mut setup = inside(&self.netns, e2e::program("netbind"));
        setup.args(["setup", "--binding", self.binding.name()]);
        setup.args(["--tap-owner", "107", "--tap-group", "107"]);
        run(setup.arg("--state").arg(&self.state));
        assert_eq!(self.look(), self.made, "set up again it is another network");
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
