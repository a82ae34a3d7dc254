//! `render`, which takes neither root nor libvirt.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e::{Lab, as_nobody, kubevirt_examples, program, repository};

use super::{example, validate};

/// Every example of a machine, ours and KubeVirt's.
fn renderable() -> Vec<PathBuf> {
    let ours = repository().join("examples");
    let theirs = kubevirt_examples();
    if theirs.is_none() {
        println!("skipped: KubeVirt's examples are not here");
    }
    let directories = [Some(ours), theirs].into_iter().flatten();
    let files = directories.flat_map(|directory| fs::read_dir(directory).unwrap().flatten());
    files
        .map(|file| file.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vm") && name.ends_with(".yaml")
        })
        .collect()
}

#[test]
fn render_takes_no_root_and_is_valid_for_every_example() {
    let lab = Lab::new();
    let files = renderable();
    assert!(files.len() >= 5);
    for file in files {
        let mut command = Command::new(program("virt-launcher"));
        command.args(["render", "--emulation", "tcg", "-"]);
        let output = as_nobody(&command)
            .stdin(fs::File::open(&file).unwrap())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", file.display());
        validate(&lab, &file.display().to_string(), &output.stdout);
    }
}

#[test]
fn render_takes_neither_libvirt_nor_qemu() {
    let lab = Lab::new();
    let hidden = [
        "/usr/lib/x86_64-linux-gnu/libvirt.so.0",
        "/usr/bin/qemu-system-x86_64",
    ];
    let mut command = lab.launcher();
    command
        .args(["render", "--emulation", "tcg"])
        .arg(example("vm.yaml"));
    let output = lab.without(&hidden, &command);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    validate(&lab, "render", &output.stdout);
}
