//! From exec to running vCPUs, and what the first VM costs in memory: ours beside
//! `virt-qemu-run` and QEMU by hand.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::Lab;

use crate::report::{Budget, Compared, Median, Row, Section};
use crate::subject::{By, Memory, Template, Vm};

/// Long enough that nothing is left to do after a start.
const SETTLE: Duration = Duration::from_secs(1);

/// All rounds' figures.
#[derive(Default)]
struct Figures {
    ours: Vec<f64>,
    virt_qemu_run: Vec<f64>,
    by_hand: Vec<f64>,
    memory: Vec<Memory>,
    peers_memory: Vec<Memory>,
}

/// Starts the example by all ways in turns, with the capability cache warm and cold.
pub(crate) fn measure(rounds: usize) -> [Section; 2] {
    let (warm_lab, cold_lab) = (Lab::new(), Lab::new());
    let example = fs::read_to_string(e2e::repository().join("examples/vm.yaml"));
    let example = example.expect("the example is there");
    let manifest = warm_lab.manifest(&example);
    let cold_manifest = cold_lab.manifest(&example);
    let template = Template::take(&warm_lab, &manifest);
    Template::take(&cold_lab, &cold_manifest);
    empty_cache(&cold_lab);

    let (mut warm, mut cold) = (Figures::default(), Figures::default());
    for round in 0..rounds {
        eprintln!("start: round {} of {rounds}", round + 1);
        let mut ways = [By::Ferrovirt, By::VirtQemuRun, By::Hand];
        if round % 2 == 1 {
            ways.reverse();
        }
        for by in ways {
            warm.add(&warm_lab, &manifest, &template, by, true);
        }
        for by in ways.into_iter().filter(|by| *by != By::Hand) {
            cold.add(&cold_lab, &cold_manifest, &template, by, false);
        }
    }
    let loading = loading(rounds);
    for figures in [&mut warm, &mut cold] {
        figures
            .ours
            .iter_mut()
            .for_each(|millis| *millis += loading);
    }
    let command = "cargo bench -p e2e --bench promises -- start";
    let memory_rows = [
        ("anonymous", 12.0, (|m| m.anonymous) as fn(&Memory) -> f64),
        ("PSS, the first VM on the node", 28.0, |m| m.pss),
    ]
    .map(|(what, budget, field)| Row {
        what: what.into(),
        unit: "MiB",
        ours: Median::of(warm.memory.iter().map(field)),
        peer: Some((
            "virt-qemu-run",
            Median::of(warm.peers_memory.iter().map(field)),
        )),
        compared: None,
        budget: Some(Budget::AtMost(budget)),
    });
    [
        Section {
            title: "From the launcher's exec to running vCPUs",
            command,
            rows: vec![
                beyond(
                    "warm cache, against virt-qemu-run",
                    &warm.ours,
                    ("virt-qemu-run", &warm.virt_qemu_run),
                    Some(60.0),
                ),
                beyond(
                    "cold cache, against virt-qemu-run",
                    &cold.ours,
                    ("virt-qemu-run", &cold.virt_qemu_run),
                    Some(60.0),
                ),
                beyond(
                    "warm cache, against QEMU by hand",
                    &warm.ours,
                    ("QEMU", &warm.by_hand),
                    Some(450.0),
                ),
                beyond(
                    "cold cache, against QEMU by hand",
                    &cold.ours,
                    ("QEMU", &warm.by_hand),
                    None,
                ),
            ],
            notes: include_str!("notes/start.md"),
        },
        Section {
            title: "Memory beside QEMU, the first VM",
            command,
            rows: memory_rows.into(),
            notes: include_str!("notes/memory.md"),
        },
    ]
}

impl Figures {
    fn add(&mut self, lab: &Lab, manifest: &Path, template: &Template, by: By, memory: bool) {
        let template = (by != By::Ferrovirt).then_some(template);
        let vm = Vm::start(lab, manifest, by, template);
        let (times, memories) = match by {
            By::Ferrovirt => (&mut self.ours, &mut self.memory),
            By::VirtQemuRun => (&mut self.virt_qemu_run, &mut self.peers_memory),
            By::Hand => (&mut self.by_hand, &mut vec![]),
        };
        times.push(vm.millis);
        if memory && by != By::Hand {
            if by == By::Ferrovirt {
                vm.wait_for("guest-ready");
            }
            std::thread::sleep(SETTLE);
            memories.push(vm.memory());
        }
        vm.stop();
    }
}

fn beyond(
    what: &str,
    ours: &[f64],
    (name, peers): (&'static str, &[f64]),
    budget: Option<f64>,
) -> Row {
    Row {
        what: what.into(),
        unit: "ms",
        ours: Median::of(ours.iter().copied()),
        peer: Some((name, Median::of(peers.iter().copied()))),
        compared: Some(Compared {
            how: "difference",
            unit: "ms",
            value: Median::of_differences(ours, peers),
        }),
        budget: budget.map(Budget::AtMost),
    }
}

/// init's own clock begins in its main; what comes before it, from fork to the end of a process
/// that does nothing, is added to ours, in milliseconds.
fn loading(rounds: usize) -> f64 {
    let millis = (0..rounds.max(20)).map(|_| {
        let begun = Instant::now();
        let status = Command::new(e2e::program("virt-launcher"))
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "virt-launcher runs"
        );
        begun.elapsed().as_secs_f64() * 1000.0
    });
    Median::of(millis).middle
}

/// Leaves the launcher a cache with nothing in it.
fn empty_cache(lab: &Lab) {
    let caches = fs::read_dir(lab.root().join("capabilities")).expect("there was a VM");
    for cache in caches.flatten() {
        for file in fs::read_dir(cache.path())
            .expect("it is a directory")
            .flatten()
        {
            fs::remove_file(file.path()).expect("root may");
        }
    }
}
