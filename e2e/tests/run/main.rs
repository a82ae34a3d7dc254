//! What a person does with a VM, from `run` to its end.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

mod render;
mod terminal;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{BOOT, Lab, Vm, images, program, repository};
use nix::sys::signal::Signal;

/// How long anything short of a boot may take, on a loaded machine that emulates the guest's CPU.
const MOMENT: Duration = Duration::from_secs(60);

fn example(name: &str) -> PathBuf {
    repository().join("examples").join(name)
}

/// The first example under another name, with `old` replaced.
fn hello(lab: &Lab, name: &str, old: &str, new: &str) -> PathBuf {
    let text = fs::read_to_string(example("vm.yaml")).unwrap();
    assert!(text.contains(old), "{old:?} is not in the example");
    let path = lab.path().join(format!("{name}.yaml"));
    let text = text
        .replace("name: hello", &format!("name: {name}"))
        .replacen(old, new, 1);
    fs::write(&path, text).unwrap();
    path
}

/// The VM's sandbox as the launcher has it on disk.
fn sandbox(vm: &Vm<'_>) -> serde_json::Value {
    let path = vm
        .directory()
        .expect("the VM has a sandbox")
        .join("sandbox.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What `netbind discover` prints of the pod.
fn discover(lab: &Lab, vm: &Vm<'_>) -> serde_json::Value {
    let netns = vm.directory().expect("the VM has a sandbox").join("netns");
    let mut command = lab.command(program("netbind"));
    let output = command
        .args(["discover", "--json", "--netns"])
        .arg(netns)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn ping(lab: &Lab, address: &str) {
    let output = lab
        .command("ping")
        .args(["-c", "1", "-W", "30", address])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

fn validate(lab: &Lab, what: &str, xml: &[u8]) {
    let path = lab.path().join("domain.xml");
    fs::write(&path, xml).unwrap();
    let output = Command::new("virt-xml-validate")
        .arg(&path)
        .arg("domain")
        .output();
    let output = output.expect("virt-xml-validate is installed");
    assert!(
        output.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_guest_has_the_pods_own_address_and_mac() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example("vm.yaml"), &[]);
    vm.wait_until_leased(BOOT);

    let result = sandbox(&vm)["attached"][0]["result"].take();
    let interfaces = result["interfaces"].as_array().unwrap();
    let eth0 = interfaces
        .iter()
        .find(|interface| interface["name"] == "eth0")
        .unwrap();
    let (address, mac) = (result["ips"][0]["address"].as_str(), eth0["mac"].as_str());
    let (address, mac) = (address.unwrap(), mac.unwrap());

    let discovered = discover(&lab, &vm);
    assert_eq!(discovered["addresses"][0]["net"], address);
    assert_eq!(discovered["mac"], mac);
    let status = vm.status();
    assert_eq!(status["interfaces"][0]["address"], address);
    assert_eq!(status["interfaces"][0]["mac"], mac);
    assert_eq!(status["interfaces"][0]["leased"], true);
    let mut console = vm.shell();
    let own = format!("inet {address} ");
    console.says("ip -o addr show dev eth0", &[&own], BOOT);
    let inside = console.run("cat /sys/class/net/eth0/address", MOMENT);
    assert_eq!(inside.trim(), mac);
    let host: Ipv4Addr = address.split('/').next().unwrap().parse().unwrap();
    ping(&lab, &host.to_string());
    // What has to be gone at the end is there now, and seen.
    let there = lab.leftovers();
    for kind in ["mount", "directory", "link", "address", "rule", "process"] {
        assert!(
            there.iter().any(|line| line.starts_with(kind)),
            "{kind}: {there:?}"
        );
    }
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn until_guest_ready_ends_well_in_plain_lines_and_leaves_nothing() {
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
        .arg(example("vm.yaml"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).expect("plain text");
    assert!(output.status.success(), "{stderr}");
    assert!(output.stdout.is_empty(), "standard output is for programs");
    let mut kinds = vec![];
    for line in stderr.lines() {
        assert!(!line.contains(char::is_control), "{line:?}");
        let (seconds, rest) = line.trim_start().split_once("s  ").expect("time first");
        assert!(seconds.parse::<f64>().is_ok(), "{line}");
        kinds.push(rest.split_whitespace().next().unwrap_or_default());
    }
    let wanted = [
        "manifest",
        "sandbox",
        "guest-running",
        "guest-ready",
        "succeeded",
        "removed",
    ];
    let told: Vec<_> = kinds
        .iter()
        .filter(|kind| wanted.contains(kind))
        .copied()
        .collect();
    assert_eq!(told, wanted, "{stderr}");
    lab.assert_clean();
}

/// A configuration of one plugin with host-local addresses, in a file of the lab.
fn network(lab: &Lab, plugin: &str, ipam: &str) -> String {
    let ipam = ipam.replace("DATA", lab.path().join("ipam").to_str().unwrap());
    let text =
        format!(r#"{{"cniVersion":"1.0.0","name":"lab",{plugin},"mtu":1400,"ipam":{ipam}}}"#);
    lab.cni(&text)
}

#[test]
fn each_network_of_cni_reaches_the_guest_with_its_mtu() {
    const LOCAL: &str = r#"{"type":"host-local","dataDir":"DATA",
        "ranges":[[{"subnet":"10.9.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}"#;
    // The gateway lies outside of the pod's own network, as Calico has it.
    const OUTSIDE: &str = r#"[ "$CNI_COMMAND" = ADD ] || { ip link del cali0; exit 0; }
        in_pod() { nsenter --net="$CNI_NETNS" ip "$@"; }
        ip link add cali0 mtu 1400 type veth peer name eth0 netns "$CNI_NETNS" mtu 1400
        ip addr add 169.254.1.1/32 dev cali0
        ip link set cali0 up
        ip route add 10.9.0.77 dev cali0
        in_pod addr add 10.9.0.77/32 dev eth0
        in_pod link set eth0 up
        in_pod route add 169.254.1.1 dev eth0 scope link
        in_pod route add default via 169.254.1.1 dev eth0
        echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.77/32"}]}'"#;
    let cases = [
        (
            "bridge",
            r#""type":"bridge","bridge":"lab0","isGateway":true"#,
            LOCAL,
            "10.9.0.1",
            "10.9.0.2/24",
        ),
        // The pod reaches its own network through the gateway alone, and so must the guest.
        ("ptp", r#""type":"ptp""#, LOCAL, "10.9.0.1", "10.9.0.2/32"),
        (
            "a gateway outside",
            r#""type":"calico-like""#,
            "{}",
            "169.254.1.1",
            "10.9.0.77/32",
        ),
    ];
    for (what, plugin, ipam, gateway, address) in cases {
        println!("{what}");
        let lab = Lab::new();
        let conf = network(&lab, plugin, ipam);
        let bin = lab.plugin("calico-like", OUTSIDE);
        let args = ["--cni-conf", &conf, "--cni-bin", &bin];
        let mut vm = Vm::run(&lab, "hello", &example("vm.yaml"), &args);
        vm.wait_for("guest-ready", BOOT);
        assert_eq!(discover(&lab, &vm)["mtu"], 1400, "{what}");
        let mut console = vm.shell();
        let (own, via) = (format!("inet {address} "), format!("via {gateway} "));
        let ping = format!("ping -c 1 -W 30 {gateway}");
        for (command, part) in [
            ("cat /sys/class/net/eth0/mtu", "1400\r\n"),
            ("ip -o -4 addr show dev eth0", &own),
            ("ip route get 192.0.2.1", &via),
            (&ping, " 0% packet loss"),
        ] {
            console.says(command, &[part], BOOT);
        }
        drop(console);
        vm.shut_down();
        // A bridge that was there before us, or came with another's network, is not ours.
        let _ = lab
            .command("ip")
            .args(["link", "del", "lab0"])
            .stderr(Stdio::null())
            .status();
        lab.assert_clean();
    }
}

#[test]
fn a_running_vm_is_looked_at_and_ended_by_its_name() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example("vm.yaml"), &[]);
    vm.wait_for("guest-ready", BOOT);

    let output = lab.launcher_output(&["status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let row: Vec<&str> = text
        .lines()
        .nth(1)
        .expect("a row")
        .split_whitespace()
        .collect();
    let address = vm.address().to_string();
    assert_eq!(row[..3], ["default", "hello", "Running"], "{text}");
    assert!(row[3].starts_with(&address), "{text}");

    let xml = lab.launcher_output(&["dumpxml", "hello"]).stdout;
    assert!(String::from_utf8_lossy(&xml).contains("<name>default_hello</name>"));
    validate(&lab, "dumpxml", &xml);

    let mut first = vm.shell();
    let said = first.run("echo $((6 * 7))", MOMENT);
    assert_eq!(said.trim(), "42", "typing reaches the guest");
    let mut second = vm.shell();
    assert!(
        first.ended(MOMENT).success(),
        "a second session ends the first"
    );
    assert_eq!(second.run("echo $((6 * 8))", MOMENT).trim(), "48");
    drop(second);

    let path = example("vm.yaml");
    let again = ["run", "--emulation", "tcg", "--images"];
    let mut command = lab.launcher();
    let output = command
        .args(again)
        .arg(images())
        .arg(&path)
        .args(["-o", "json"])
        .output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("default/hello runs already"), "{stderr}");
    assert_eq!(vm.status()["phase"], "Running", "the first goes on");

    let output = lab.launcher_output(&["shutdown", "hello"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (status, stderr) = vm.wait();
    assert!(status.success(), "{stderr}");
    lab.assert_clean();
}

#[test]
fn ctrl_c_shuts_the_guest_down_within_its_grace_period() {
    let lab = Lab::new();
    let manifest = hello(&lab, "graceful", "PeriodSeconds: 10", "PeriodSeconds: 120");
    let mut vm = Vm::run(&lab, "graceful", &manifest, &[]);
    vm.wait_for("guest-ready", BOOT);
    vm.signal(Signal::SIGINT);
    let asked = vm.wait_for("shutdown-requested", MOMENT);
    let ended = vm.wait_for("succeeded", BOOT);
    assert_eq!(ended.message, "the guest shut down as asked");
    let took = ended.elapsed_ms - asked.elapsed_ms;
    assert!(took < 120_000.0, "{took} ms");
    let (status, stderr) = vm.wait();
    assert!(status.success(), "{stderr}");
    lab.assert_clean();
}

#[test]
fn a_guest_that_does_not_listen_is_powered_off_after_its_grace_period() {
    let lab = Lab::new();
    let manifest = hello(&lab, "deaf", "PeriodSeconds: 10", "PeriodSeconds: 3");
    let mut vm = Vm::run(&lab, "deaf", &manifest, &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.shell();
    console.run("rm -r /etc/acpi/PWRF", MOMENT);
    drop(console);
    vm.signal(Signal::SIGINT);
    let asked = vm.wait_for("shutdown-requested", MOMENT);
    let off = vm.wait_for("powered-off", MOMENT);
    let took = off.elapsed_ms - asked.elapsed_ms;
    assert!(took >= 2_900.0, "not before its time: {took} ms");
    let (status, stderr) = vm.wait();
    assert!(status.success(), "{stderr}");
    lab.assert_clean();
}

#[test]
fn a_second_ctrl_c_powers_off_at_once() {
    let lab = Lab::new();
    let manifest = hello(&lab, "deaf", "PeriodSeconds: 10", "PeriodSeconds: 3600");
    let mut vm = Vm::run(&lab, "deaf", &manifest, &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.shell();
    console.run("rm -r /etc/acpi/PWRF", MOMENT);
    drop(console);
    vm.signal(Signal::SIGINT);
    vm.wait_for("shutdown-requested", MOMENT);
    vm.signal(Signal::SIGINT);
    assert_eq!(vm.wait_for("succeeded", MOMENT).message, "powered off");
    let (status, stderr) = vm.wait();
    assert!(status.success(), "{stderr}");
    lab.assert_clean();
}

#[test]
fn two_vms_run_side_by_side() {
    let lab = Lab::new();
    let manifests = ["one", "two"].map(|name| hello(&lab, name, "128Mi", "129Mi"));
    let mut one = Vm::run(&lab, "one", &manifests[0], &[]);
    let mut two = Vm::run(&lab, "two", &manifests[1], &[]);
    one.wait_for("guest-ready", BOOT);
    two.wait_for("guest-ready", BOOT);
    assert_ne!(one.address(), two.address());
    let mut console = one.shell();
    let ping_two = format!("ping -c 1 -W 30 {}", two.address());
    console.says(&ping_two, &[" 0% packet loss"], BOOT);
    drop(console);
    one.shut_down();
    ping(&lab, &two.address().to_string());
    two.shut_down();
    lab.assert_clean();
}

#[test]
fn a_kernel_boots_without_disk_or_boot_loader() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "kernel-boot", &example("vmi-kernel-boot.yaml"), &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.shell();
    let said = console.run("cat /proc/cmdline; ls /sys/block | grep -c vd", MOMENT);
    assert!(said.contains("console=ttyS0 quiet"), "{said}");
    assert_eq!(
        said.lines().last().map(str::trim),
        Some("0"),
        "no disk: {said}"
    );
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn efi_and_secure_boot_reach_the_guest() {
    let lab = Lab::new();
    let text = fs::read_to_string(example("vmi-secure-boot.yaml")).unwrap();
    let plain = lab.manifest(&text.replace("secureBoot: true", "secureBoot: false"));
    let cases: [(&Path, &str); 2] = [(&example("vmi-secure-boot.yaml"), "1"), (&plain, "0")];
    for (manifest, expected) in cases {
        let mut vm = Vm::run(&lab, "secure-boot", manifest, &[]);
        vm.wait_for("guest-ready", BOOT);
        let mut console = vm.shell();
        let said = console.run(
            "ls /sys/firmware/efi/fw_platform_size; dmesg | grep -c 'Secure boot enabled'",
            MOMENT,
        );
        let said: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(said, ["/sys/firmware/efi/fw_platform_size", expected]);
        drop(console);
        vm.shut_down();
    }
    lab.assert_clean();
}

#[test]
fn dhcp_options_reach_the_guest() {
    let lab = Lab::new();
    let options = "bridge: {}\n            dhcpOptions:\n              \
        bootFileName: boot.efi\n              tftpServerName: tftp.example\n              \
        ntpServers: [192.0.2.123]\n              \
        privateOptions: [{option: 240, value: ferrovirt}]";
    let manifest = hello(&lab, "options", "bridge: {}", options);
    let mut vm = Vm::run(&lab, "options", &manifest, &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.shell();
    console.run(
        "printf '#!/bin/sh\\nset\\n' >/tmp/show; chmod +x /tmp/show",
        MOMENT,
    );
    // Lines of `set`; what udhcpc has no name for, it shows as hexadecimal digits.
    let expected = [
        "boot.efi'",
        "tftp='tftp.example'",
        "ntpsrv='192.0.2.123'",
        "='666572726f76697274'",
    ];
    console.says(
        "udhcpc -n -q -f -i eth0 -s /tmp/show -O bootfile -O tftp -O ntpsrv -O 240 2>&1",
        &expected,
        BOOT,
    );
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}
