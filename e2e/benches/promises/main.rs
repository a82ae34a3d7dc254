//! `docs/benchmarks.md`: every promise in numbers, measured next to its peer.
//!
//! ```text
//! start, crowd, network, throughput, cluster, machines ─▶ measured here, on real parts ┐
//! netbind's benches `wire`, `forward`, `answer` ─▶ read from the target directory ─────┴▶ page
//! ```
//!
//! Without arguments all is measured and the page written; parts named as arguments are printed.
//! `quick` makes three rounds only, to see that all works. Takes root and `make build guests`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark, as a test, ends where its ground is not as it should be"
)]

mod cluster;
mod crowd;
mod network;
mod report;
mod standin;
mod start;
mod subject;
mod throughput;

use std::process::ExitCode;

use report::Section;

/// Interleaved pairs.
const ROUNDS: usize = 20;

fn main() -> ExitCode {
    let name = std::env::args().next().unwrap_or_default();
    if name.ends_with("virt-worker") {
        return standin::main();
    }
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let quick = arguments.iter().any(|argument| argument == "quick");
    let rounds = if quick { 3 } else { ROUNDS };
    let parts: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|part| *part != "quick")
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let program = e2e::program("virt-launcher");
    // target/release
    let target = program
        .ancestors()
        .nth(2)
        .expect("a program lies in target/release");

    let mut sections: Vec<Section> = vec![];
    if wanted("start") {
        sections.extend(start::measure(rounds));
    }
    if wanted("crowd") {
        sections.push(crowd::measure(rounds));
    }
    if wanted("network") {
        sections.push(network::set_up(rounds));
        sections.push(network::wire(target));
        sections.push(network::forward(target));
        sections.push(network::answer(target));
    }
    if wanted("throughput") {
        sections.push(throughput::measure(rounds));
    }
    if wanted("cluster") {
        sections.push(cluster::measure(rounds / 2));
    }
    if wanted("machines") {
        sections.push(cluster::machines(rounds));
    }
    let page = report::page(&sections);
    if parts.is_empty() && !quick {
        let path = e2e::repository().join("docs/benchmarks.md");
        std::fs::write(&path, page).expect("the page can be written");
        eprintln!("wrote docs/benchmarks.md");
    } else {
        println!("{page}");
    }
    ExitCode::SUCCESS
}
