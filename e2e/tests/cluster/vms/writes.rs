//! What a machine costs the API server, by its audit log.

use std::collections::BTreeMap;

use serde_json::Value;

use super::guest::{Guest, holds, mini};
use super::install::Installation;

/// Writes until an instance, and a machine, runs and is ready; Events and Leases apart.
const INSTANCE: usize = 6;
const MACHINE: usize = 9;

/// How many starts may take more: on a machine that has other work, what mostly is known at once and
/// written in one comes piece by piece, and two may write at the same moment.
const SLOW: usize = 4;

pub(crate) async fn a_start_takes_few_writes(ferrovirt: &Installation<'_>) {
    let namespace = &ferrovirt.api.namespace("writes").await;
    for start in 0..=SLOW {
        let Err(more) = count(ferrovirt, namespace, start).await else {
            return;
        };
        assert!(start < SLOW, "{more}");
    }
}

/// Counts the writes of a start.
///
/// # Errors
/// What was written, where that is too much.
async fn count(ferrovirt: &Installation<'_>, namespace: &str, start: usize) -> Result<(), String> {
    let api = ferrovirt.api;
    let (instance, machine) = (
        format!("counted-vmi-{start}"),
        format!("counted-vm-{start}"),
    );
    let guest = Guest::instance(api, namespace, &instance, mini()).await;
    guest
        .wait_vmi("ready", |vmi| holds(vmi, "Ready").then_some(()))
        .await;
    let machine = Guest::machine(api, namespace, &machine, "Always", mini()).await;
    machine
        .wait_vm("ready", |vm| holds(vm, "Ready").then_some(()))
        .await;
    machine.answers().await;
    let mut counted = Ok(());
    for (guest, most) in [(&guest, INSTANCE), (&machine, MACHINE)] {
        let writes = ferrovirt
            .cluster
            .audit(|entry| concerns(entry, namespace, guest.name));
        let Some(writes) = writes else {
            println!("skipped: another's cluster has no audit log for us");
            break;
        };
        let mut kinds = BTreeMap::<String, usize>::new();
        for write in &writes {
            *kinds.entry(describe(write)).or_default() += 1;
        }
        let told = format!("{}: {} writes: {kinds:?}", guest.name, writes.len());
        println!("{told}");
        // Else nothing was counted: a pod and a status at least were written.
        assert!(writes.len() >= 3, "{told}");
        if writes.len() > most {
            counted = Err(told);
        }
    }
    guest.delete("VirtualMachineInstance").await;
    machine.delete("VirtualMachine").await;
    counted
}

/// Whether an entry is a write of ours about a machine of that name.
fn concerns(entry: &Value, namespace: &str, name: &str) -> bool {
    let object = &entry["objectRef"];
    let user = entry["user"]["username"].as_str().unwrap_or_default();
    let ours = user.starts_with("system:serviceaccount:ferrovirt:");
    let resource = object["resource"].as_str().unwrap_or_default();
    let about = object["name"].as_str().unwrap_or_default();
    ours && object["namespace"] == namespace
        && !["events", "leases"].contains(&resource)
        && (about == name || about.starts_with(&format!("virt-launcher-{name}-")))
}

fn describe(entry: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &entry["objectRef"];
    let user = text(&entry["user"]["username"]);
    let user = user.rsplit(':').next().unwrap_or_default().to_owned();
    format!(
        "{user} {} {}/{} {}",
        text(&entry["verb"]),
        text(&object["resource"]),
        text(&object["subresource"]),
        entry["responseStatus"]["code"],
    )
}
