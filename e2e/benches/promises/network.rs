//! The pod's network set up, and what netbind's own benches measured.

use std::path::Path;
use std::process::Command;

use e2e::Lab;
use serde_json::Value;

use crate::report::{Budget, Compared, Median, Row, Section};

/// `netbind setup`: discover, plan and apply, in a pod with one interface.
pub(crate) fn set_up(rounds: usize) -> Section {
    let lab = Lab::new();
    let ip = |arguments: &str| run(lab.command("ip").args(arguments.split_whitespace()));
    ip("link add eth0 type veth peer name far");
    ip("addr add 10.1.1.2/24 dev eth0");
    ip("link set far up");
    ip("link set eth0 up");
    ip("route add default via 10.1.1.1");
    let state = lab.path().join("state");
    let netbind = |verb: &str| {
        let mut command = lab.command(e2e::program("netbind"));
        run(command.args(["--json", verb, "--state"]).arg(&state))
    };
    let times = (0..rounds).map(|_| {
        let done: Value = serde_json::from_str(&netbind("setup")).expect("netbind writes JSON");
        netbind("teardown");
        done["micros"].as_f64().expect("it tells how long it took") / 1000.0
    });
    Section {
        title: "The pod's network: discover, plan, apply",
        command: "cargo bench -p e2e --bench promises -- network",
        rows: vec![Row {
            what: "`netbind setup`".into(),
            unit: "ms",
            ours: Median::of(times),
            peer: None,
            compared: None,
            budget: Some(Budget::AtMost(30.0)),
        }],
        notes: include_str!("notes/network.md"),
    }
}

/// DISCOVER to OFFER on the wire, from the bench that was run before this one.
pub(crate) fn wire(target: &Path) -> Section {
    let figures = json(&target.join("wire.json"));
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
    Section {
        title: "DHCPDISCOVER to DHCPOFFER on the wire",
        command: "cargo bench -p netbind --bench wire",
        rows: vec![Row {
            what: "against dnsmasq in the same namespace".into(),
            unit: "µs",
            ours: median("netbind_micros"),
            peer: Some(("dnsmasq", median("dnsmasq_micros"))),
            compared: Some(Compared {
                how: "ratio",
                unit: "%",
                value: percent(median("ratio")),
            }),
            budget: Some(Budget::AtMost(100.0)),
        }],
        notes: include_str!("notes/wire.md"),
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
