//! What a guest with its system's default settings makes of the pod's networks, and who reaches it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use e2e::{BOOT, Console, Lab, Vm, eventually, images, repository};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const MOMENT: Duration = Duration::from_secs(60);

/// The mini guest's web page and its echo service.
const HTTP: u16 = 80;
const ECHO: u16 = 7;

/// An example, with every `old` replaced.
fn example(lab: &Lab, name: &str, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = fs::read_to_string(repository().join("examples").join(name)).unwrap();
    for (old, new) in changes {
        assert!(text.contains(old), "{old:?} is not in the example");
        text = text.replace(old, new);
    }
    lab.manifest(&text)
}

/// A CNI configuration of a bridge with host-local addresses in these subnets.
fn bridge(lab: &Lab, name: &str, more: &str, subnets: &[&str]) -> String {
    let ranges = subnets
        .iter()
        .map(|net| format!(r#"[{{"subnet":"{net}"}}]"#));
    let ranges = ranges.collect::<Vec<_>>().join(",");
    let data = lab.path().join("ipam");
    let path = lab.path().join(format!("{name}.conf"));
    let text = format!(
        r#"{{"cniVersion":"1.0.0","name":"{name}","type":"bridge","bridge":"{name}0",
            "isGateway":true,"ipam":{{"type":"host-local","dataDir":"{}","ranges":[{ranges}]
            {more}}}}}"#,
        data.display()
    );
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A shell of the mini guest, once it was granted every address. It takes them a moment later.
fn shell(vm: &mut Vm<'_>) -> Console {
    vm.wait_until_leased(BOOT);
    vm.shell()
}

/// Waits until what the guest says has every part in it.
fn says(console: &mut Console, command: &str, parts: &[&str]) {
    console.says(command, parts, BOOT);
}

/// A connection from the host, once the guest has the address and listens.
fn connect(lab: &Lab, address: IpAddr, port: u16) -> TcpStream {
    let to = SocketAddr::new(address, port);
    let stream = eventually(&format!("a connection to {to}"), BOOT, || {
        lab.connect(to, MOMENT).ok()
    });
    stream.set_read_timeout(Some(MOMENT)).unwrap();
    stream
}

/// The web page of the guest at `address`, fetched from the host.
fn page(lab: &Lab, address: IpAddr) -> String {
    let mut stream = connect(lab, address, HTTP);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The pod's address of either family.
fn pair(addresses: &[IpAddr]) -> (IpAddr, IpAddr) {
    let found = |v4: bool| addresses.iter().find(|address| address.is_ipv4() == v4);
    match (found(true), found(false)) {
        (Some(ipv4), Some(ipv6)) => (*ipv4, *ipv6),
        _ => panic!("not of both families: {addresses:?}"),
    }
}

#[test]
fn by_bridge_the_guest_has_the_pods_addresses_of_both_families() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(&lab, "vm.yaml", &[]), &[]);
    let mut console = shell(&mut vm);
    let (ipv4, ipv6) = pair(&vm.pod_addresses("default"));
    says(
        &mut console,
        "ip -o addr show dev eth0",
        &[&format!("inet {ipv4}/24 "), &format!("inet6 {ipv6}/128 ")],
    );
    says(
        &mut console,
        "ip route",
        &["default via 10.143.0.1 dev eth0"],
    );
    says(
        &mut console,
        "ip -6 route",
        &["default via fe80::", "fd10:143::/64 dev eth0"],
    );
    for gateway in ["10.143.0.1", "fd10:143::1"] {
        says(
            &mut console,
            &format!("ping -c 1 -W 30 {gateway}"),
            &[" 0% packet loss"],
        );
    }
    for address in [ipv4, ipv6] {
        assert!(page(&lab, address).contains("ferrovirt-mini"), "{address}");
    }
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn by_masquerade_the_pods_ports_are_the_guests() {
    let lab = Lab::new();
    let path = example(&lab, "vmi-masquerade.yaml", &[]);
    let mut vm = Vm::run(&lab, "masquerade", &path, &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = shell(&mut vm);
    says(
        &mut console,
        "ip -o addr show dev eth0",
        &["inet 10.0.2.2/24 ", "inet6 fd10:0:2::2/128 "],
    );
    says(&mut console, "ip route", &["default via 10.0.2.1 dev eth0"]);
    says(&mut console, "ip -6 route", &["default via fe80::"]);
    for gateway in ["10.143.0.1", "fd10:143::1"] {
        says(
            &mut console,
            &format!("ping -c 1 -W 30 {gateway}"),
            &[" 0% packet loss"],
        );
    }
    let (ipv4, ipv6) = pair(&vm.pod_addresses("default"));
    for address in [ipv4, ipv6] {
        assert!(page(&lab, address).contains("ferrovirt-mini"), "{address}");
        // The pod's own, and nobody listens there.
        let refused = lab.connect(SocketAddr::new(address, ECHO), MOMENT);
        let kind = refused.map(drop).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionRefused), "{address}");
    }
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn masquerade_without_ports_has_all_of_them_in_a_network_of_ones_own() {
    let lab = Lab::new();
    let changes = [
        ("        ports:\n", ""),
        ("        - {name: http, port: 80, protocol: TCP}\n", ""),
        (
            "    pod: {}",
            "    pod: {vmNetworkCIDR: 10.55.0.0/29, vmIPv6NetworkCIDR: 'fd55::/126'}",
        ),
    ];
    let path = example(&lab, "vmi-masquerade.yaml", &changes);
    let mut vm = Vm::run(&lab, "masquerade", &path, &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = shell(&mut vm);
    says(
        &mut console,
        "ip -o addr show dev eth0",
        &["inet 10.55.0.2/29 ", "inet6 fd55::2/128 "],
    );
    let (ipv4, ipv6) = pair(&vm.pod_addresses("default"));
    for address in [ipv4, ipv6] {
        assert!(page(&lab, address).contains("ferrovirt-mini"), "{address}");
        let mut echo = connect(&lab, address, ECHO);
        echo.write_all(b"hello\n").unwrap();
        let mut back = [0; 6];
        echo.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello\n");
    }
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn a_second_network_has_an_interface_of_its_own() {
    let lab = Lab::new();
    let path = example(&lab, "vmi-two-networks.yaml", &[]);
    let conf = bridge(&lab, "blue", "", &["10.9.0.0/24", "fd09::/64"]);
    let network = format!("default/blue={conf}");
    let mut vm = Vm::run(&lab, "two-networks", &path, &["--network", &network]);
    let sandbox = vm.wait_for("sandbox", BOOT);
    assert!(
        sandbox
            .message
            .contains(", and 10.9.0.2/24, fd09::2/64 on storage"),
        "{}",
        sandbox.message
    );
    vm.wait_for("guest-ready", BOOT);
    eventually("both leases", BOOT, || {
        let status = vm.status();
        let leased = |index: usize| status["interfaces"][index]["leased"] == true;
        (leased(0) && leased(1)).then_some(())
    });
    let mut console = vm.shell();
    let (ipv4, _) = pair(&vm.pod_addresses("default"));
    says(
        &mut console,
        "ip -o -4 addr",
        &[
            &format!("eth0    inet {ipv4}/24 "),
            "eth1    inet 10.9.0.2/24 ",
        ],
    );
    // The further network leads nowhere else.
    says(
        &mut console,
        "ip route",
        &["default via 10.143.0.1 dev eth0"],
    );
    for address in [ipv4, IpAddr::from([10, 9, 0, 2])] {
        assert!(page(&lab, address).contains("ferrovirt-mini"), "{address}");
    }
    for server in ["from 169.254.75.10 on eth0", "from 169.254.75.11 on eth1"] {
        eventually(server, BOOT, || {
            let log = fs::read(vm.runtime_dir().join("serial0.log")).unwrap();
            String::from_utf8_lossy(&log).contains(server).then_some(())
        });
    }
    let xml = lab.launcher_output(&["dumpxml", "two-networks"]).stdout;
    let xml = String::from_utf8(xml).unwrap();
    // The first eleven digits of the SHA-256 of "storage".
    for tap in ["tap0", "tap49a25f9feef"] {
        assert!(
            xml.contains(&format!("<target dev='{tap}'")),
            "{tap}: {xml}"
        );
    }
    drop(console);
    vm.shut_down();
    // Its plugin made it, and never removes it.
    let _ = lab.command("ip").args(["link", "del", "blue0"]).status();
    lab.assert_clean();
    let left = fs::read_dir(lab.path().join("ipam/blue"))
        .unwrap()
        .flatten();
    let left = left.filter(|file| file.file_name().to_str().unwrap().parse::<IpAddr>().is_ok());
    assert_eq!(
        left.count(),
        0,
        "addresses of the further network are in use"
    );
}

#[test]
fn what_killed_processes_left_of_two_networks_is_removed_by_the_next_run() {
    let lab = Lab::new();
    let path = example(&lab, "vmi-two-networks.yaml", &[]);
    let network = format!("blue={}", bridge(&lab, "blue", "", &["10.9.0.0/24"]));
    let args = ["--network", &network];
    let mut vm = Vm::run(&lab, "two-networks", &path, &args);
    vm.wait_for("guest-running", BOOT);
    let sandbox = vm.processes().sandbox;
    vm.signal(Signal::SIGSTOP);
    kill(Pid::from_raw(sandbox), Signal::SIGKILL).unwrap();
    vm.signal(Signal::SIGKILL);
    let _ = vm.wait();
    assert!(!lab.leftovers().is_empty(), "nobody could clean up");
    let mut again = Vm::run(&lab, "two-networks", &path, &args);
    again.wait_for("guest-running", BOOT);
    again.shut_down();
    let _ = lab.command("ip").args(["link", "del", "blue0"]).status();
    lab.assert_clean();
}

#[test]
fn a_guest_on_a_network_of_ipv6_alone_gets_ready() {
    let lab = Lab::new();
    let conf = bridge(&lab, "six", r#","routes":[{"dst":"::/0"}]"#, &["fd06::/64"]);
    for (name, example_file, address) in [
        ("hello", "vm.yaml", "fd06::2"),
        ("masquerade", "vmi-masquerade.yaml", "fd10:0:2::2"),
    ] {
        let path = example(&lab, example_file, &[]);
        let mut vm = Vm::run(&lab, name, &path, &["--cni-conf", &conf]);
        vm.wait_for("guest-ready", BOOT);
        let addresses = vm.status()["interfaces"][0]["addresses"].take();
        assert_eq!(
            addresses,
            serde_json::json!([{"address": format!("{address}/128"), "leased": true}])
        );
        let [pod] = vm.pod_addresses("default")[..] else {
            panic!("the pod has one address");
        };
        assert!(page(&lab, pod).contains("ferrovirt-mini"), "{pod}");
        vm.shut_down();
    }
    let _ = lab.command("ip").args(["link", "del", "six0"]).status();
    lab.assert_clean();
}

/// A network of layer 2 is the guest's to configure; nothing tells when it is ready.
#[test]
fn a_guest_on_a_network_without_addresses_runs() {
    let lab = Lab::new();
    let path = example(&lab, "vm.yaml", &[]);
    let conf = lab.cni(r#"{"cniVersion":"1.0.0","name":"two","type":"bridge","bridge":"two0"}"#);
    let mut vm = Vm::run(&lab, "hello", &path, &["--cni-conf", &conf]);
    vm.wait_for("guest-running", BOOT);
    let mut console = vm.shell();
    let add = "ip addr add 10.7.0.2/24 dev eth0; ip -o addr show dev eth0";
    says(&mut console, add, &["inet 10.7.0.2/24 "]);
    let up = ["addr", "add", "10.7.0.1/24", "dev", "two0"];
    assert!(lab.command("ip").args(up).status().unwrap().success());
    assert!(page(&lab, IpAddr::from([10, 7, 0, 2])).contains("ferrovirt-mini"));
    drop(console);
    vm.shut_down();
    let _ = lab.command("ip").args(["link", "del", "two0"]).status();
    lab.assert_clean();
}

/// What stands for a machine without IPv6: one that was told to have none, which new devices heed.
#[test]
fn a_machine_without_ipv6_runs_vms() {
    let lab = Lab::new();
    let off =
        "for device in all default; do echo 1 >/proc/sys/net/ipv6/conf/$device/disable_ipv6; done";
    assert!(
        lab.command("sh")
            .args(["-c", off])
            .status()
            .unwrap()
            .success()
    );
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
        .arg(example(&lab, "vmi-masquerade.yaml", &[]))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("the pod has 10.143.0.2/24\n"), "{stderr}");
    lab.assert_clean();
}
