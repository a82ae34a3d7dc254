//! Our API by KubeVirt's own virtctl: who has it keeps it.

use std::process::Command;

use e2e::{Console, repository};
use tokio::task::spawn_blocking;

use super::debian;
use super::virtctl::{
    Virtctl, a_guest_is_held_and_rebooted, a_viewer_is_served, an_instance_is_replaced,
};
use crate::api::{Api, LIMIT};
use crate::vms::Installation;
use crate::vms::guest::{Guest, mini};

pub(crate) async fn kubevirts_own_client_works(ferrovirt: &Installation<'_>) {
    let directory = repository().join("e2e");
    let built = Command::new(directory.join("kubevirt/build")).status();
    assert!(built.is_ok_and(|status| status.success()), "it is built");
    let program = directory.join("out/kubevirt/virtctl");

    let work = tempfile::tempdir().expect("there is a place for files");
    let namespace = &ferrovirt.api.namespace("kubevirts").await;
    let virtctl = &Virtctl::other(program, ferrovirt, namespace, work.path());
    tokio::join!(
        a_machine_is_driven(ferrovirt.api, virtctl, namespace),
        debian_is_reached(ferrovirt.api, virtctl, namespace),
    );
}

async fn a_machine_is_driven(api: &Api, virtctl: &Virtctl<'_>, namespace: &str) {
    let guest = Guest::machine(api, namespace, "driven", "Manual", mini()).await;
    guest.printable("Stopped").await;
    let version = virtctl.run("version").await;
    assert!(version.contains("Server Version"), "{version}");
    let error = virtctl.errors("stop driven").await;
    assert!(error.contains("VM is not running"), "{error}");
    virtctl.run("start driven").await;
    let address = guest.answers().await;
    let error = virtctl.errors("start driven").await;
    assert!(error.contains("already running"), "{error}");

    let console = virtctl.command("console driven");
    spawn_blocking(|| a_console_is_left(console))
        .await
        .expect("the console works");
    a_viewer_is_served(virtctl).await;
    for question in ["userlist", "fslist"] {
        let error = virtctl.errors(&format!("{question} driven")).await;
        assert!(error.contains("agent"), "{error}");
    }

    a_guest_is_held_and_rebooted(virtctl, &guest, &address).await;
    virtctl.run("expose vm driven --name web --port 80").await;

    an_instance_is_replaced(virtctl, &guest).await;
    virtctl.run("stop driven").await;
    guest.printable("Stopped").await;
    let expanded = virtctl.run("expand --vm driven").await;
    assert!(expanded.contains("kind: VirtualMachine"), "{expanded}");
    guest.delete("VirtualMachine").await;
}

/// Something is typed, and the terminal is left by its own key.
fn a_console_is_left(virtctl: Command) {
    let mut console = Console::start(virtctl);
    console.send("\n");
    console.expect("mini# ", LIMIT);
    let sum = console.run("echo $((40 + 2))", LIMIT);
    assert_eq!(sum.trim(), "42");
    console.send("\x1d");
    assert!(console.ended(LIMIT).success());
}

/// A paste by the console, the agent's answers, files by ssh and scp.
async fn debian_is_reached(api: &Api, virtctl: &Virtctl<'_>, namespace: &str) {
    let guest = debian::machine(api, virtctl, namespace).await;
    debian::a_paste_arrives(virtctl).await;
    for (question, answer) in [
        ("guestosinfo", "bookworm"),
        ("userlist", "ferris"),
        ("fslist", "\"/\""),
    ] {
        let told = virtctl.run(&format!("{question} debian")).await;
        assert!(told.contains(answer), "{told}");
    }
    debian::files_arrive(virtctl).await;
    guest.delete("VirtualMachine").await;
}
