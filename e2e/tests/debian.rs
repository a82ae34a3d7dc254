//! A guest with an init system of its own: what cloud-init and systemd-networkd make of what we
//! give them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use e2e::{BOOT, Console, Lab, Vm, eventually};

/// How long a command of an emulated CPU may take.
const COMMAND: Duration = Duration::from_secs(120);

/// A Debian guest with one more volume.
fn manifest(lab: &Lab, name: &str, volume: &str) -> PathBuf {
    lab.manifest(&format!(
        "apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {{name: {name}}}
spec:
  domain:
    devices:
      disks:
      - {{name: root, disk: {{bus: virtio}}}}
      - {{name: data, disk: {{bus: virtio}}}}
      interfaces:
      - {{name: default, bridge: {{}}}}
    memory: {{guest: 512Mi}}
  networks:
  - {{name: default, pod: {{}}}}
  terminationGracePeriodSeconds: 120
  volumes:
  - name: root
    containerDisk: {{image: 'localhost/ferrovirt/debian:devel'}}
  - name: data
    {volume}
"
    ))
}

/// Both families of a network whose addresses nobody else has.
fn dual_stack(lab: &Lab) -> String {
    let data = lab.path().join("ipam");
    lab.cni(&format!(
        r#"{{"cniVersion":"1.0.0","name":"lab","type":"bridge","bridge":"lab0","isGateway":true,
            "mtu":1380,"ipam":{{"type":"host-local","dataDir":"{}",
            "ranges":[[{{"subnet":"10.9.0.0/24"}}],[{{"subnet":"fd09::/64"}}]],
            "routes":[{{"dst":"0.0.0.0/0"}},{{"dst":"::/0"}}]}}}}"#,
        data.display()
    ))
}

/// The console of a guest that is up and through with cloud-init.
fn shell(vm: &mut Vm<'_>) -> Console {
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.console();
    console.expect(":~# ", BOOT);
    let status = console.run("cloud-init status --wait", BOOT);
    assert!(status.contains("status: done"), "{status}");
    // systemd tells of a boot that takes long, on this console.
    console.run("systemctl is-system-running --wait", BOOT);
    console
}

#[test]
fn cloud_init_runs_nocloud_user_data_of_a_secret() {
    let lab = Lab::new();
    let secret = lab.path().join("user-data");
    let data = "#cloud-config\nusers:\n- name: ferris\n  shell: /bin/bash\nwrite_files:\n\
        - path: /etc/ferrovirt\n  content: from a secret\nruncmd:\n- [touch, /run/ran]\n";
    fs::write(&secret, data).unwrap();
    let volume = "cloudInitNoCloud: {secretRef: {name: user}}";
    let path = manifest(&lab, "nocloud", volume);
    let secret = format!("user={}", secret.display());
    let mut vm = Vm::run(&lab, "nocloud", &path, &["--secret", &secret]);
    let mut console = shell(&mut vm);
    assert_eq!(
        console.run("cat /etc/ferrovirt; echo", COMMAND).trim(),
        "from a secret"
    );
    assert_eq!(console.run("ls /run/ran", COMMAND).trim(), "/run/ran");
    let said = console.run("getent passwd ferris | cut -d: -f7", COMMAND);
    assert_eq!(said.trim(), "/bin/bash");
    let said = console.run("cat /run/cloud-init/cloud-id", COMMAND);
    assert_eq!(said.trim(), "nocloud");
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn cloud_init_runs_user_data_from_a_config_drive() {
    let lab = Lab::new();
    // #!/bin/sh, then: echo "by $(hostname)" >/run/ran
    let script = "IyEvYmluL3NoCmVjaG8gImJ5ICQoaG9zdG5hbWUpIiA+L3J1bi9yYW4K";
    let volume = format!("cloudInitConfigDrive: {{userDataBase64: {script}}}");
    let path = manifest(&lab, "drive", &volume);
    let mut vm = Vm::run(&lab, "drive", &path, &[]);
    let mut console = shell(&mut vm);
    assert_eq!(console.run("cat /run/ran", COMMAND).trim(), "by drive");
    let said = console.run("cat /run/cloud-init/cloud-id", COMMAND);
    assert!(
        said.trim().starts_with("configdrive") || said.trim() == "openstack",
        "{said}"
    );
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn networkd_gets_all_that_dhcp_tells() {
    let mut lab = Lab::new();
    lab.set_resolv_conf(
        "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch a.example b.example\n",
    );
    let data = lab.path().join("ipam");
    let conf = lab.cni(&format!(
        r#"{{"cniVersion":"1.0.0","name":"lab","type":"bridge","bridge":"lab0","isGateway":true,
            "mtu":1380,"ipam":{{"type":"host-local","dataDir":"{}",
            "ranges":[[{{"subnet":"10.9.0.0/24"}}]],
            "routes":[{{"dst":"0.0.0.0/0"}},{{"dst":"198.51.100.0/24","gw":"10.9.0.9"}}]}}}}"#,
        data.display()
    ));
    // No cloud-init data, so that nobody but DHCP names the guest.
    let path = manifest(&lab, "by-dhcp", "emptyDisk: {capacity: 1Gi}");
    let mut vm = Vm::run(&lab, "by-dhcp", &path, &["--cni-conf", &conf]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.console();
    console.expect(":~# ", BOOT);
    let size = format!("{}\r\n", 1024 * 1024 * 2);
    let routes = [
        "default via 10.9.0.1 dev eth0",
        "198.51.100.0/24 via 10.9.0.9 dev eth0",
    ];
    for (command, parts) in [
        ("ip -o -4 addr show dev eth0", &["inet 10.9.0.2/24 "][..]),
        ("ip route show proto dhcp", &routes),
        ("resolvectl dns eth0", &["192.0.2.53 192.0.2.54"]),
        ("resolvectl domain eth0", &["a.example b.example"]),
        ("cat /sys/class/net/eth0/mtu", &["1380\r\n"]),
        ("hostname", &["by-dhcp\r\n"]),
        // In sectors of 512 bytes.
        ("cat /sys/block/vdb/size", &[&size]),
    ] {
        console.says(command, parts, COMMAND);
    }
    drop(console);
    vm.shut_down();
    let _ = lab.command("ip").args(["link", "del", "lab0"]).status();
    lab.assert_clean();
}

#[test]
fn networkd_has_both_families_in_both_bindings() {
    let bindings = [
        ("bridge", "10.9.0.2/24", "fd09::2/128", "10.9.0.1"),
        ("masquerade", "10.0.2.2/24", "fd10:0:2::2/128", "10.0.2.1"),
    ];
    for (binding, ipv4, ipv6, router) in bindings {
        println!("{binding}");
        let mut lab = Lab::new();
        lab.set_resolv_conf("nameserver 2001:db8::53\nnameserver 192.0.2.53\nsearch a.example\n");
        let conf = dual_stack(&lab);
        let path = manifest(&lab, "dual", "emptyDisk: {capacity: 1Gi}");
        let text = fs::read_to_string(&path).unwrap();
        let path = lab.manifest(&text.replace("bridge: {}", &format!("{binding}: {{}}")));
        let mut vm = Vm::run(&lab, "dual", &path, &["--cni-conf", &conf]);
        vm.wait_until_leased(BOOT);
        let mut console = vm.console();
        console.expect(":~# ", BOOT);
        let mut expect = |command: &str, parts: &[&str]| {
            console.says(command, parts, COMMAND);
        };
        expect("ip -o -4 addr show dev eth0", &[&format!("inet {ipv4} ")]);
        expect(
            "ip -o -6 addr show dev eth0 -tentative",
            &[&format!("inet6 {ipv6} ")],
        );
        expect("ip route", &[&format!("default via {router} dev eth0")]);
        expect("ip -6 route", &["default via fe80::", "proto ra"]);
        expect("resolvectl dns eth0", &["192.0.2.53", "2001:db8::53"]);
        expect("cat /proc/sys/net/ipv6/conf/eth0/mtu", &["1380"]);
        // Beyond the pod, as a guest that nobody has touched.
        for gateway in ["10.9.0.1", "fd09::1"] {
            expect(&format!("ping -c 1 -W 30 {gateway}"), &[" 0% packet loss"]);
        }
        for pod in vm.pod_addresses("default") {
            let to = std::net::SocketAddr::new(pod, 22);
            eventually(&format!("SSH of {pod}"), BOOT, || {
                lab.connect(to, COMMAND).ok()
            });
        }
        drop(console);
        vm.shut_down();
        let _ = lab.command("ip").args(["link", "del", "lab0"]).status();
        lab.assert_clean();
    }
}
