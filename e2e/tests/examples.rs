//! KubeVirt's own examples, unmodified: they run, or are refused by the field of a later feature.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use e2e::{BOOT, Lab, Vm, images, kubevirt_examples, repository};

/// How long a short command may take.
const MOMENT: Duration = Duration::from_secs(60);

/// The example's path; `None`, with a line that says so, where the examples are not here.
fn example(file: &str) -> Option<PathBuf> {
    let path = kubevirt_examples().map(|directory| directory.join(file));
    if path.is_none() {
        println!("skipped: KubeVirt's examples are not here");
    }
    path
}

/// Runs the example until the guest is ready; returns what was said on standard error.
fn gets_ready(file: &str) -> String {
    let Some(manifest) = example(file) else {
        return String::new();
    };
    let lab = Lab::new();
    let output = lab
        .launcher()
        .args([
            "run",
            "--emulation",
            "tcg",
            "--until",
            "guest-ready",
            "--images",
        ])
        .arg(images())
        .arg(manifest)
        .stdin(Stdio::null())
        .output()
        .expect("virt-launcher can be started");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{file}: {stderr}");
    assert!(stderr.contains("guest-ready"), "{file}: {stderr}");
    lab.assert_clean();
    stderr
}

/// Runs the example, looks at its console, and ends it.
fn says(file: &str, name: &str, words: &[&str]) {
    let Some(manifest) = example(file) else {
        return;
    };
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, name, &manifest, &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.console();
    for word in words {
        console.expect(word, BOOT);
    }
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn vm_cirros() {
    says(
        "vm-cirros.yaml",
        "vm-cirros",
        &["cloud-init NoCloud", "printed from cloud-init userdata"],
    );
}

#[test]
fn vm_cirros_sata_gives_volumes_without_disks_a_sata_disk() {
    let words = [
        "cloud-init NoCloud on /dev/sd",
        "printed from cloud-init userdata",
    ];
    says("vm-cirros-sata.yaml", "vm-cirros-sata", &words);
}

#[test]
fn vm_priorityclass_is_run_with_one_warning() {
    let stderr = gets_ready("vm-priorityclass.yaml");
    if stderr.is_empty() {
        return;
    }
    let warnings: Vec<_> = stderr
        .lines()
        .filter(|line| line.contains("warning"))
        .collect();
    assert_eq!(
        warnings,
        ["warning: there is no cluster here: priorityClassName is ignored"],
        "{stderr}"
    );
}

#[test]
fn vmi_ephemeral() {
    let stderr = gets_ready("vmi-ephemeral.yaml");
    assert!(!stderr.contains("warning"), "{stderr}");
}

#[test]
fn vmi_kernel_boot() {
    gets_ready("vmi-kernel-boot.yaml");
}

#[test]
fn vmi_masquerade() {
    gets_ready("vmi-masquerade.yaml");
}

#[test]
fn vmi_sata() {
    gets_ready("vmi-sata.yaml");
}

#[test]
fn vmi_nocloud_has_an_empty_disk_of_its_size() {
    let Some(manifest) = example("vmi-nocloud.yaml") else {
        return;
    };
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "vmi-nocloud", &manifest, &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.console();
    console.expect("printed from cloud-init userdata", BOOT);
    drop(console);
    let mut console = vm.shell();
    // In sectors of 512 bytes.
    let said = console.run("cat /sys/block/vdc/size", MOMENT);
    assert_eq!(said.trim(), (2_u64 * 1024 * 1024 * 2).to_string());
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

/// Removes the host's file that an example names, and the directories that were made for it.
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
            let _ = fs::remove_dir(path);
        }
    }
}

#[test]
fn vmi_host_disk() {
    const DISK: &str = "/var/data/disk.img";
    let Some(manifest) = example("vmi-host-disk.yaml") else {
        return;
    };
    let disk = Path::new(DISK);
    if disk.exists() {
        println!("skipped: {DISK} is somebody's");
        return;
    }
    let parents = disk.ancestors().skip(1).filter(|path| !path.exists());
    let made = Made(
        [disk]
            .into_iter()
            .chain(parents)
            .map(Path::to_owned)
            .collect(),
    );
    let lab = Lab::new();

    // Nothing is there: it is made as the example asks, and no system is on it.
    let mut vm = Vm::run(&lab, "vmi-host-disk", &manifest, &[]);
    vm.wait_for("guest-running", BOOT);
    assert_eq!(
        fs::metadata(disk).expect("the disk was made").len(),
        1 << 30
    );
    vm.shut_down();
    lab.assert_clean();

    // Somebody put a system there.
    fs::copy(repository().join("e2e/out/mini-generic/disk.img"), disk).expect("the guest is made");
    let mut vm = Vm::run(&lab, "vmi-host-disk", &manifest, &[]);
    vm.wait_for("guest-ready", BOOT);
    vm.shut_down();
    lab.assert_clean();
    assert!(disk.exists(), "the host's disk stays");
    drop(made);
}

#[test]
fn a_claim_that_is_not_given_is_named_with_its_flag() {
    let Some(manifest) = example("vmi-pvc.yaml") else {
        return;
    };
    let lab = Lab::new();
    let output = lab.launcher_output(&["run", manifest.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let told = "volume pvcdisk: the manifest refers to the claim \"disk-alpine\"; give it with \
                --claim disk-alpine=PATH";
    assert!(stderr.contains(told), "{stderr}");
    lab.assert_clean();
}

#[test]
fn every_example_is_in_a_test_here() {
    let Some(directory) = kubevirt_examples() else {
        return;
    };
    let source = fs::read_to_string(repository().join("e2e/tests/examples.rs")).unwrap();
    for file in fs::read_dir(directory).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        assert!(
            source.contains(&format!("\"{name}\"")),
            "{name} is in no test"
        );
    }
}
