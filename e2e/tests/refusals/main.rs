//! What cannot work is told in one line that names the cause and the remedy, and leaves nothing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

mod image;
mod machine;
mod manifest;
mod network;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use e2e::{Lab, images};

/// The words that one refusal must have, in this order.
type Words = &'static [&'static str];

/// A VirtualMachineInstance with this name and what stands below `spec`.
fn vmi(name: &str, spec: &str) -> String {
    let spec = spec.trim_end().replace('\n', "\n  ");
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata:\n  name: {name}\n\
         spec:\n  {spec}\n"
    )
}

/// A spec with nothing wrong.
const GOOD: &str = "\
domain:
  devices:
    disks:
    - {name: root, disk: {bus: virtio}}
    interfaces:
    - {name: default, bridge: {}}
  memory: {guest: 128Mi}
networks:
- {name: default, pod: {}}
volumes:
- name: root
  containerDisk: {image: 'localhost/ferrovirt/mini:devel'}
";

/// [`GOOD`], with the first `old` replaced.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old:?} is not in the manifest");
    vmi("bad", &GOOD.replacen(old, new, 1))
}

/// `virt-launcher run`, started by hand as a person would, with its timeline on stdout.
fn run(lab: &Lab, manifest: &Path, args: &[&str]) -> Command {
    let mut command = lab.launcher();
    command.args(["run", "-o", "json"]);
    if !args.contains(&"--emulation") {
        command.args(["--emulation", "tcg"]);
    }
    if !args.contains(&"--images") {
        command.arg("--images").arg(images());
    }
    command.args(args).arg(manifest).stdin(Stdio::null());
    command
}

/// Fails unless the command ended as a refusal should, with `words` in its one line.
fn assert_refused(lab: &Lab, what: &str, output: &Output, words: Words) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{what}: {}: {stderr}",
        output.status
    );
    assert_eq!(
        stderr.lines().count(),
        1,
        "{what} takes one line:\n{stderr}"
    );
    let mut rest = &*stderr;
    for word in words {
        let Some(at) = rest.find(word) else {
            panic!("{what}: {word:?} is not (there) in: {stderr}");
        };
        rest = &rest[at + word.len()..];
    }
    println!("{what}: {}", stderr.trim_end());
    lab.assert_clean();
}

fn refuse(lab: &Lab, what: &str, manifest: &str, args: &[&str], words: Words) {
    let path = lab.manifest(manifest);
    let output = run(lab, &path, args)
        .output()
        .expect("virt-launcher can be started");
    assert_refused(lab, what, &output, words);
}
