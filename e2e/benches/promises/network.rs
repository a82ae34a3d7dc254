//! The pod's network set up, and what netbind's own benches measured.

use std::path::Path;
use std::process::Command;

use e2e::Lab;
use serde_json::Value;

use crate::report::{Budget, Compared, Median, Row, Section};

/// `netbind setup`: discover, plan and apply, in a pod with one interface on both families.
pub(crate) fn set_up(rounds: usize) -> Section {
    let lab = Lab::new();
    let ip = |arguments: &str| {
        for line in arguments.lines() {
            run(lab.command("ip").args(line.split_whitespace()));
        }
    };
    ip("link add eth0 type veth peer name far
        addr add 10.1.1.2/24 dev eth0
        addr add fd01::2/64 dev eth0 nodad
        link set far up
        link set eth0 up
        route add default via 10.1.1.1
        -6 route add default via fd01::1");
    let state = lab.path().join("state");
    let program = e2e::program("netbind");
    let teardown = || {
        run(lab
            .command(&program)
            .args(["teardown", "--state"])
            .arg(&state))
    };
    let rows = ["bridge", "masquerade"].map(|binding| {
        let setup = |command: &mut Command| {
            command.args(["--json", "setup", "--binding", binding, "--state"]);
            let done = run(command.arg(&state));
            teardown();
            done
        };
        let times = (0..rounds).map(|_| {
            let done = setup(&mut lab.command(&program));
            let done: Value = serde_json::from_str(&done).expect("netbind writes JSON");
            done["micros"].as_f64().expect("it tells how long it took") / 1000.0
        });
        let times = Median::of(times);
        let calls = lab.path().join("calls");
        let mut strace = lab.command("strace");
        setup(
            strace
                .args(["--follow-forks", "--output"])
                .arg(&calls)
                .arg(&program),
        );
        let calls = std::fs::read_to_string(calls).expect("strace wrote it");
        Row {
            what: format!(
                "`netbind setup --binding {binding}`, {} kernel calls",
                kernel_calls(&calls)
            ),
            unit: "ms",
            ours: times,
            peer: None,
            compared: None,
            budget: Some(Budget::AtMost(30.0)),
        }
    });
    Section {
        title: "The pod's network: discover, plan, apply",
        command: "cargo bench -p e2e --bench promises -- network",
        rows: rows.into(),
        notes: include_str!("notes/network.md"),
    }
}

/// The calls between the program's start and its end that serve the network: from the first netlink
/// socket to the last call before the result is written to stdout.
fn kernel_calls(trace: &str) -> usize {
    trace
        .lines()
        .skip_while(|line| !line.contains("socket(AF_NETLINK"))
        .take_while(|line| !line.contains("write(1,"))
        .count()
}

/// Answers on the wire, from the bench that was run before this one.
pub(crate) fn wire(target: &Path) -> Section {
    let figures = json(&target.join("wire.json"));
    let rows = [
        ("discover", "DHCPDISCOVER to DHCPOFFER"),
        ("solicit", "router solicitation to advertisement"),
    ];
    let rows = rows.map(|(name, what)| Row {
        what: format!("{what}, against dnsmasq in the same namespace"),
        budget: Some(Budget::AtMost(100.0)),
        ..compared(&figures[name], "µs", "dnsmasq")
    });
    Section {
        title: "Answers on the wire",
        command: "cargo bench -p netbind --bench wire",
        rows: rows.into(),
        notes: include_str!("notes/wire.md"),
    }
}

/// Packets a second, from the bench that was run before this one.
pub(crate) fn forward(target: &Path) -> Section {
    let figures = json(&target.join("forward.json"));
    let peers = [("bridge", "bridge by hand"), ("masquerade", "nft by hand")];
    let directions = [
        ("from_guest", "from the guest"),
        ("to_guest", "to the guest"),
    ];
    let rows = peers.into_iter().flat_map(|(binding, peer)| {
        let figures = &figures[binding];
        directions.map(|(name, what)| Row {
            what: format!("{binding}, {what}"),
            ..compared(&figures[name], "packets/s", peer)
        })
    });
    Section {
        title: "Packets a second through both bindings",
        command: "cargo bench -p netbind --bench forward",
        rows: rows.collect(),
        notes: include_str!("notes/forward.md"),
    }
}

/// Ours beside its peer's, as netbind's benches write them.
fn compared(figures: &Value, unit: &'static str, peer: &'static str) -> Row {
    let pairs = figures["pairs"].as_u64().unwrap_or_default();
    let median = |name: &str| {
        let [low, middle, high] =
            [0, 1, 2].map(|at| figures[name][at].as_f64().unwrap_or(f64::NAN));
        Median {
            low,
            middle,
            high,
            n: usize::try_from(pairs).unwrap_or_default(),
        }
    };
    Row {
        what: String::new(),
        unit,
        ours: median("ours"),
        peer: Some((peer, median("peer"))),
        compared: Some(Compared {
            how: "ratio",
            unit: "%",
            value: percent(median("ratio")),
        }),
        budget: None,
    }
}

fn percent(ratio: Median) -> Median {
    let Median {
        low,
        middle,
        high,
        n,
    } = ratio;
    Median {
        low: 100.0 * low,
        middle: 100.0 * middle,
        high: 100.0 * high,
        n,
    }
}

/// One answer computed, from criterion's estimates.
pub(crate) fn answer(target: &Path) -> Section {
    let rows = ["discover", "request", "nak"].map(|name| {
        let directory = target.join("criterion/answer").join(name).join("new");
        let median = &json(&directory.join("estimates.json"))["median"];
        let bounds = &median["confidence_interval"];
        let micros = |value: &Value| value.as_f64().unwrap_or(f64::NAN) / 1000.0;
        let samples = json(&directory.join("sample.json"));
        Row {
            what: format!(
                "`answer` to {}",
                if name == "nak" {
                    "a stale request (NAK)"
                } else {
                    name
                }
            ),
            unit: "µs",
            ours: Median {
                low: micros(&bounds["lower_bound"]),
                middle: micros(&median["point_estimate"]),
                high: micros(&bounds["upper_bound"]),
                n: samples["times"].as_array().map_or(0, Vec::len),
            },
            peer: None,
            compared: None,
            budget: Some(Budget::AtMost(2.0)),
        }
    });
    Section {
        title: "One DHCP answer, computed",
        command: "cargo bench -p netbind --bench answer",
        rows: rows.into(),
        notes: include_str!("notes/answer.md"),
    }
}

fn json(path: &Path) -> Value {
    let text = std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}; `make bench` runs its bench", path.display()));
    serde_json::from_slice(&text).expect("benches write JSON")
}

/// Runs a command to its end; returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
