//! A guest with an agent, users and SSH, reached by virtctl: what is pasted and copied arrives whole.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::Console;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::call::{Caller, PLAIN};
use super::virtctl::Virtctl;
use crate::api::{Api, eventually};
use crate::vms::Installation;
use crate::vms::guest::Guest;

const IMAGE: &str = "localhost/ferrovirt/debian:devel";
const PASSWORD: &str = "correct horse";

/// How long an emulated guest may take for a command, or for what is pasted or copied.
const COMMAND: Duration = Duration::from_secs(600);

/// In bytes.
const PASTE: usize = 1 << 20;
const FILE: usize = 20 << 20;

/// For SSH: a guest's key is new at each first boot.
const OPTIONS: &str =
    "--identity-file key -t -oStrictHostKeyChecking=no -t -oUserKnownHostsFile=/dev/null";

pub(crate) async fn everything_reaches_debian_unharmed(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("debian").await;
    let work = tempfile::tempdir().expect("there is a place for files");
    let caller = &Caller::new(api, namespace);
    let virtctl = &Virtctl::new(ferrovirt, namespace, work.path());
    let guest = machine(api, virtctl, namespace).await;
    a_paste_arrives(virtctl).await;
    the_agent_answers(caller, virtctl).await;
    files_arrive(virtctl).await;
    datagrams_arrive(caller, virtctl).await;
    guest.delete("VirtualMachine").await;
}

/// The machine `debian`, once its agent answers. Its user has the key in virtctl's directory.
pub(super) async fn machine<'a>(
    api: &'a Api,
    virtctl: &Virtctl<'_>,
    namespace: &'a str,
) -> Guest<'a> {
    let key = new_key(&virtctl.directory);
    let guest = Guest::machine(api, namespace, "debian", "Always", debian(&key)).await;
    guest.phase("Running").await;
    guest.agent().await;
    guest
}

/// The specification of a guest with one user.
fn debian(key: &str) -> Value {
    let user_data = format!(
        "#cloud-config\nusers:\n- name: ferris\n  shell: /bin/bash\n  lock_passwd: false\n  \
         plain_text_passwd: {PASSWORD}\n  ssh_authorized_keys: ['{}']\n",
        key.trim()
    );
    let disk = |name: &str| json!({"name": name, "disk": {"bus": "virtio"}});
    json!({
        "domain": {
            "devices": {"disks": [disk("root"), disk("cloudinit")]},
            "memory": {"guest": "512Mi"},
        },
        "terminationGracePeriodSeconds": 0,
        "volumes": [
            {"name": "root", "containerDisk": {"image": IMAGE}},
            {"name": "cloudinit", "cloudInitNoCloud": {"userData": user_data}},
        ],
    })
}

/// Makes `key` and `key.pub`; the latter's text.
fn new_key(directory: &Path) -> String {
    let file = directory.join("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
    let made = keygen.arg(&file).status().expect("ssh-keygen starts");
    assert!(made.success(), "ssh-keygen: {made}");
    fs::read_to_string(file.with_extension("pub")).expect("it is written")
}

async fn the_agent_answers(caller: &Caller<'_>, virtctl: &Virtctl<'_>) {
    let ask = async |what: &str| {
        let call = format!("GET virtualmachineinstances/debian/{what}");
        caller.answer(&call, &Value::Null, 200).await.json()
    };
    let system = ask("guestosinfo").await;
    assert_eq!(system["os"]["id"], "debian", "{system:#}");
    // Who has logged in at the console is still there.
    let users = ask("userlist").await;
    let users = users["items"].as_array().expect("it is a list");
    assert!(
        users.iter().any(|user| user["userName"] == "ferris"),
        "{users:?}"
    );
    let systems = ask("filesystemlist").await;
    let systems = systems["items"].as_array().expect("it is a list");
    assert!(
        systems.iter().any(|system| system["mountPoint"] == "/"),
        "{systems:?}"
    );

    let told = virtctl.json("guestosinfo debian").await;
    assert_eq!(told["os"], system["os"]);
    let told = virtctl.run("userlist debian").await;
    assert!(told.contains("ferris"), "{told}");
    let told = virtctl.run("fslist debian -o table").await;
    assert!(told.lines().any(|line| line.contains(" / ")), "{told}");

    let thawing = json!({"unfreezeTimeout": "1m0s"});
    caller
        .expect(&[
            ("PUT virtualmachineinstances/debian/freeze", thawing, 202),
            (
                "PUT virtualmachineinstances/debian/unfreeze",
                json!({}),
                202,
            ),
        ])
        .await;
}

/// Somebody logs in at the console, pastes a long text into a file, and reads it back.
pub(super) async fn a_paste_arrives(virtctl: &Virtctl<'_>) {
    let console = virtctl.command("console debian");
    let paste = spawn_blocking(|| paste(&mut Console::start(console)));
    paste.await.expect("the console works");
}

fn paste(console: &mut Console) {
    console.send("\n");
    console.expect(":~# ", COMMAND);
    // Whoever else prints at the console would do so in between.
    console.run("dmesg -n 1; cloud-init status --wait", COMMAND);
    console.send("exec login ferris\n");
    console.expect("Password: ", COMMAND);
    console.send(&format!("{PASSWORD}\n"));
    console.expect(":~$ ", COMMAND);
    let text = text(PASTE);
    console.send("stty -echo; echo re\"\"ady; cat >/tmp/pasted; echo do\"\"ne\n");
    console.expect("ready\r\n", COMMAND);
    console.send(&text);
    console.send("\x04");
    console.expect("done\r\n", COMMAND);
    let sum = console.run("sha256sum </tmp/pasted", COMMAND);
    assert_eq!(sum.trim(), sha256sum(text.as_bytes()), "what the guest has");
    let back = console.run("cat /tmp/pasted", COMMAND);
    assert!(
        back.replace("\r\n", "\n") == text,
        "what came back is not it"
    );
}

/// Lines that nobody can guess, and that a terminal takes.
fn text(length: usize) -> String {
    let mut noise = Noise(1);
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let end = text.len() % 64 == 63 || text.len() + 1 == length;
        text.push(if end { '\n' } else { noise.letter() });
    }
    text
}

/// Knuth's MMIX.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        self.0.to_be_bytes()[0]
    }

    fn letter(&mut self) -> char {
        char::from(b'a' + self.next() % 26)
    }
}

/// As sha256sum prints it of its standard input.
fn sha256sum(bytes: &[u8]) -> String {
    use std::io::Write;

    let mut sum = Command::new("sha256sum");
    let sum = sum.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut sum = sum.expect("sha256sum starts");
    let mut stdin = sum.stdin.take().expect("it is a pipe");
    stdin.write_all(bytes).expect("sha256sum reads");
    drop(stdin);
    let output = sum.wait_with_output().expect("sha256sum ends");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// ssh and scp, there and back.
pub(super) async fn files_arrive(virtctl: &Virtctl<'_>) {
    let directory = &virtctl.directory;
    let mut noise = Noise(2);
    let file: Vec<u8> = (0..FILE).map(|_| noise.next()).collect();
    fs::write(directory.join("sent"), &file).expect("there is room");
    eventually("the guest's SSH server", async || {
        let line = format!("ssh {OPTIONS} --command true ferris@vm/debian");
        virtctl.output(&line).await.status.success().then_some(())
    })
    .await;
    virtctl
        .run(&format!("scp {OPTIONS} sent ferris@vm/debian:/tmp/sent"))
        .await;
    let sum = virtctl
        .run(&format!(
            "ssh {OPTIONS} --command sha256sum</tmp/sent ferris@vm/debian"
        ))
        .await;
    assert_eq!(sum.trim(), sha256sum(&file), "what the guest has");
    virtctl
        .run(&format!("scp {OPTIONS} ferris@vm/debian:/tmp/sent back"))
        .await;
    let back = fs::read(directory.join("back")).expect("it is written");
    assert!(back == file, "what came back is not it");
}

/// One message a datagram, both ways.
async fn datagrams_arrive(caller: &Caller<'_>, virtctl: &Virtctl<'_>) {
    let server = "import socket\nu = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        u.bind((\"\", 9009))\nwhile True:\n    data, peer = u.recvfrom(65536)\n    \
        u.sendto(b\"%d bytes\\n\" % len(data), peer)\n";
    fs::write(virtctl.directory.join("server"), server).expect("there is room");
    let copy = format!("scp {OPTIONS} server ferris@vm/debian:/tmp/server");
    virtctl.run(&copy).await;
    let serve = format!("ssh {OPTIONS} --command python3</tmp/server ferris@vm/debian");
    let _server = virtctl.spawn(&serve);
    let mut stream = eventually("somebody takes datagrams", async || {
        // Each try is a new one: a port that is closed may end the stream.
        let path = "virtualmachineinstances/debian/portforward/9009/udp";
        let mut stream = caller.open(path, &[PLAIN]).await.ok()?;
        let soon = Duration::from_secs(10);
        stream.try_echo(b"first", "5 bytes\n", soon).await?;
        Some(stream)
    })
    .await;
    for length in [1, 1400, 8000] {
        stream.send(&vec![b'x'; length]).await;
        stream.expect(&format!("{length} bytes\n")).await;
    }
    stream.close().await;
}
