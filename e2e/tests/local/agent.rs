//! A guest with an agent, an SSH server and UDP.

use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use e2e::{BOOT, Lab, Vm, eventually};
use serde_json::Value;

use super::{MOMENT, Service, at, number, told, virtctl};

#[test]
fn a_guest_with_an_agent_tells_of_itself_and_takes_ssh_files_and_datagrams() {
    let lab = Lab::new();
    let key = lab.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key);
    assert!(keygen.status().expect("ssh-keygen is there").success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let manifest = lab.manifest(&format!(
        "apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {{name: debian}}
spec:
  domain:
    devices:
      disks:
      - {{name: root, disk: {{bus: virtio}}}}
      - {{name: seed, disk: {{bus: virtio}}}}
    memory: {{guest: 512Mi}}
  terminationGracePeriodSeconds: 120
  volumes:
  - name: root
    containerDisk: {{image: 'localhost/ferrovirt/debian:devel'}}
  - name: seed
    cloudInitNoCloud:
      userData: |
        #cloud-config
        ssh_authorized_keys: ['{}']
",
        public.trim()
    ));
    let mut vm = Vm::start(&lab, "debian", virtctl(&lab), &manifest, &[]);
    vm.wait_for("agent-connected", BOOT);
    let system = told(&lab, &["guestosinfo", "debian"]);
    let system: Value = serde_json::from_str(&system).unwrap();
    assert_eq!(system["os"]["versionId"], "12", "{system}");
    let mounted = told(&lab, &["fslist", "debian", "-o", "json"]);
    let mounted: Value = serde_json::from_str(&mounted).unwrap();
    let mut disks = mounted["items"].as_array().unwrap().iter();
    assert!(disks.any(|disk| disk["mountPoint"] == "/"), "{mounted}");
    eventually("root is logged in at the console", BOOT, || {
        let users = told(&lab, &["userlist", "debian", "-o", "table"]);
        users.contains("\nroot ").then_some(())
    });

    let key = key.to_str().unwrap();
    // The host key is new at each first boot.
    let options = [
        "-i",
        key,
        "-t-oStrictHostKeyChecking=no",
        "-t-oUserKnownHostsFile=/dev/null",
    ];
    let ssh = |command: &str| {
        let mut ssh = virtctl(&lab);
        ssh.args(["ssh", "root@vmi/debian", "-t-oBatchMode=yes"])
            .args(options)
            .args(["-c", command]);
        ssh
    };
    eventually("the guest's SSH server and its keys", BOOT, || {
        ssh("true").output().unwrap().status.success().then_some(())
    });
    let said = ssh("exit 3").output().unwrap();
    assert_eq!(said.status.code(), Some(3), "{said:?}");

    let sent = lab.path().join("sent");
    let pattern: Vec<u8> = (0..2_u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(&sent, &pattern).unwrap();
    let back = lab.path().join("back");
    let (sent, back) = (sent.to_str().unwrap(), back.to_str().unwrap());
    for (from, to) in [
        (sent, "root@debian:/tmp/file"),
        ("root@debian:/tmp/file", back),
    ] {
        let mut scp = virtctl(&lab);
        let output = scp.args(["scp", from, to]).args(options).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert!(
        fs::read(back).unwrap() == pattern,
        "a file comes back as it was"
    );

    datagrams(&lab, ssh(ECHO_DATAGRAMS));
    vm.shut_down();
    lab.assert_clean();
}

/// Sends datagrams back, once it has said that it does.
const ECHO_DATAGRAMS: &str = "python3 -uc '\
    import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"\", 5353))\n\
    print(\"ready\")\nwhile True: s.sendto(*s.recvfrom(65535))'";

fn datagrams(lab: &Lab, mut server: Command) {
    let mut server = Service(server.stdout(Stdio::piped()).spawn().unwrap());
    assert_eq!(server.line(), "ready\n");
    let mut forward = Service::start(lab, &["port-forward", "debian", ":5353/udp"]);
    let to = at(number(&forward.line(), "127.0.0.1:"));
    let client = lab.enter(move || {
        let socket = UdpSocket::bind(at(0)).unwrap();
        socket.connect(to).unwrap();
        socket
    });
    client.set_read_timeout(Some(MOMENT)).unwrap();
    for datagram in [&b"one"[..], &[b'x'; 1400], b"three"] {
        client.send(datagram).unwrap();
        let mut answer = [0; 2048];
        let count = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..count], datagram, "datagrams keep their bounds");
    }
}
