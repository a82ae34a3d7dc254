//! What streams cost the processes that they go through.

use std::time::Duration;

use futures::future::join_all;

use super::call::{Caller, Stream};
use crate::api::{Api, eventually, on_the_node};
use crate::vms::Installation;
use crate::vms::guest::{Guest, mini};

/// Streams that are open at once: a console and a screen of each guest, and ports.
const STREAMS: usize = 50;
const GUESTS: [&str; 3] = ["one", "two", "three"];

/// Anonymous memory in KiB that a stream may cost a process that it goes through.
const IDLE: usize = 64;
const STALLED: usize = 256;

/// In pairs: the process, and how many streams go through all of its kind.
const PARTS: [(&str, usize); 2] = [
    ("virt-controller", STREAMS),
    ("virt-handler", 2 * GUESTS.len()),
];

pub(crate) async fn streams_cost_little(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("streams").await;
    for node in api.nodes().await {
        api.run_pod(namespace, on_the_node(&node, &node)).await;
    }
    let caller = &Caller::new(api, namespace);
    let guests = GUESTS.map(|name| Guest::instance(api, namespace, name, mini()));
    let guests = join_all(guests).await;
    join_all(guests.iter().map(Guest::answers)).await;

    // What is made once is no stream's; what many have left behind would hide what they cost.
    end(open(caller, &GUESTS[..1], "7", 3).await).await;
    let before = settled(api, namespace).await;
    let idle = open(caller, &GUESTS, "7", STREAMS).await;
    let after = settled(api, namespace).await;
    assert_growth("idle", &before, &after, IDLE);
    end(idle).await;

    // A guest that prints as fast as it can, to clients that do not read.
    let flood = "echo 'exec yes' >/tmp/flood; chmod +x /tmp/flood; nc -ll -p 19 -e sh /tmp/flood &";
    for guest in &guests {
        let address = guest.answers().await;
        guest.shell(&address, flood).await;
        guest.listens(&address, 19).await;
    }
    let mut stalled = open(caller, &GUESTS, "19", STREAMS).await;
    for console in &mut stalled[..GUESTS.len()] {
        console.send(b"\nyes\n").await;
    }
    let after = settled(api, namespace).await;
    assert_growth("stalled", &before, &after, STALLED);
    // Nobody has let go of them. Screens come after the consoles, and say who they are.
    for (index, stream) in stalled.iter_mut().enumerate() {
        let screen = (GUESTS.len()..2 * GUESTS.len()).contains(&index);
        stream.expect(if screen { "RFB" } else { "y" }).await;
    }
    end(stalled).await;
    for guest in &guests {
        guest.delete("VirtualMachineInstance").await;
    }
}

/// A console and a screen of each guest, and for the rest connections to a port of theirs.
async fn open(caller: &Caller<'_>, guests: &[&str], port: &str, count: usize) -> Vec<Stream> {
    let consoles = guests.iter().map(|name| format!("{name}/console"));
    let screens = guests.iter().map(|name| format!("{name}/vnc"));
    let ports = guests.iter().cycle();
    let ports = ports.map(|name| format!("{name}/portforward/{port}"));
    let mut streams = vec![];
    for stream in consoles.chain(screens).chain(ports).take(count) {
        let path = format!("virtualmachineinstances/{stream}");
        streams.push(caller.stream(&path).await);
    }
    streams
}

async fn end(streams: Vec<Stream>) {
    join_all(streams.into_iter().map(Stream::close)).await;
}

/// Anonymous memory of each part in KiB, of all its processes together, once it grows no more.
async fn settled(api: &Api, namespace: &str) -> Vec<usize> {
    let mut last = vec![];
    eventually("memory that does not change", async || {
        let now = anonymous(api, namespace).await;
        let grown = |(now, last): (&usize, &usize)| now.abs_diff(*last) > 16;
        let steady = !last.is_empty() && !now.iter().zip(&last).any(grown);
        last.clone_from(&now);
        tokio::time::sleep(Duration::from_secs(1)).await;
        steady.then_some(now)
    })
    .await
}

async fn anonymous(api: &Api, namespace: &str) -> Vec<usize> {
    let mut sums = vec![];
    for (part, _) in PARTS {
        let script = format!(
            "for pid in $(pidof {part}); do grep RssAnon /proc/$pid/status; done | tr -dc '0-9\\n'"
        );
        let mut sum = 0;
        for node in api.nodes().await {
            let sizes = api.shell(namespace, &node, &script).await;
            let sizes = sizes.lines().map(|line| line.parse::<usize>());
            sum += sizes.sum::<Result<usize, _>>().expect("sizes are numbers");
        }
        sums.push(sum);
    }
    sums
}

fn assert_growth(kind: &str, before: &[usize], after: &[usize], most: usize) {
    for (((part, streams), before), after) in PARTS.iter().zip(before).zip(after) {
        let each = after.saturating_sub(*before) / streams;
        println!("{part}: {streams} {kind} streams, {before} to {after} KiB: {each} KiB each");
        assert!(each < most, "{part}: {each} KiB for each {kind} stream");
    }
}
