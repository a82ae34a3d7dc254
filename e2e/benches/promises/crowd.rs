//! What each of ten VMs costs in memory, when all of them run.

use std::fs;
use std::time::Duration;

use e2e::Lab;

use crate::report::{Budget, Median, Row, Section};
use crate::subject::{By, Memory, Template, Vm};

const VMS: usize = 10;
const SETTLE: Duration = Duration::from_secs(2);

/// Ten at once, as often as it takes for `rounds` figures.
pub(crate) fn measure(rounds: usize) -> Section {
    let lab = Lab::new();
    let example = fs::read_to_string(e2e::repository().join("examples/vm.yaml"));
    let example = example.expect("the example is there");
    let template = Template::take(&lab, &lab.manifest(&example));
    let (mut ours, mut peers) = (vec![], vec![]);
    while ours.len() < rounds {
        eprintln!("crowd: {} of {rounds}", ours.len() + VMS);
        ours.extend(ten(&lab, &example, By::Ferrovirt, &template));
        peers.extend(ten(&lab, &example, By::VirtQemuRun, &template));
    }
    let row = |what: &str, budget, field: fn(&Memory) -> f64| Row {
        what: what.into(),
        unit: "MiB",
        ours: Median::of(ours.iter().map(field)),
        peer: Some(("virt-qemu-run", Median::of(peers.iter().map(field)))),
        compared: None,
        budget: Some(Budget::AtMost(budget)),
    };
    Section {
        title: "Memory beside QEMU, ten VMs",
        command: "cargo bench -p e2e --bench promises -- crowd",
        rows: vec![
            row("anonymous, each of ten", 12.0, |memory| memory.anonymous),
            row("PSS, the tenth VM on the node", 16.0, |memory| memory.pss),
        ],
        notes: include_str!("notes/crowd.md"),
    }
}

fn ten(lab: &Lab, example: &str, by: By, template: &Template) -> Vec<Memory> {
    let template = (by != By::Ferrovirt).then_some(template);
    let vms: Vec<Vm> = (0..VMS)
        .map(|number| {
            let manifest =
                lab.manifest(&example.replace("name: hello", &format!("name: vm{number}")));
            Vm::start(lab, &manifest, by, template)
        })
        .collect();
    if by == By::Ferrovirt {
        vms.iter().for_each(|vm| drop(vm.wait_for("guest-ready")));
    }
    std::thread::sleep(SETTLE);
    let memory = vms.iter().map(Vm::memory).collect();
    vms.into_iter().for_each(Vm::stop);
    memory
}
