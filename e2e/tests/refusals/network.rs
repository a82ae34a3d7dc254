//! Networks that cannot carry a guest.

use std::fs;
use std::process::Stdio;

use e2e::{BOOT, Lab, eventually};

use super::{GOOD, Words, assert_refused, refuse, run, vmi, with};

fn bridge(ipam: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"lab","type":"bridge","bridge":"lab0"{ipam}}}"#)
}

#[test]
fn a_pod_network_that_cannot_carry_a_guest_is_told() {
    let good = vmi("bad", GOOD);
    let custom = |name: &str| format!(r#"{{"cniVersion":"1.0.0","name":"lab","type":"{name}"}}"#);
    let answer = r#"cat >/dev/null; echo '{"cniVersion":"1.0.0"}'"#;
    let fail = r#"cat >/dev/null
        echo '{"cniVersion":"1.0.0","code":11,"msg":"no room","details":"try later"}'; exit 1"#;
    let behind = with("bridge: {}", "masquerade: {}");
    let taken =
        r#","ipam":{"type":"host-local","dataDir":"DATA","ranges":[[{"subnet":"10.0.2.0/25"}]]}"#;
    let cases: &[(&str, &str, String, &str, Words)] = &[
        (
            "no eth0",
            &good,
            custom("lab-none"),
            answer,
            &["eth0", "CNI"],
        ),
        (
            "masquerade without an address",
            &behind,
            bridge(""),
            answer,
            &["\"default\"", "eth0", "no address"],
        ),
        (
            "masquerade on its own network",
            &behind,
            bridge(taken),
            answer,
            &["10.0.2.0/24", "10.0.2.2/25", "vmNetworkCIDR"],
        ),
        (
            "an address that never comes",
            &good,
            custom("lab-none"),
            r#"cat >/dev/null; [ "$CNI_COMMAND" = ADD ] || exit 0
            nsenter --net="$CNI_NETNS" sh -c "ip link add eth0 type veth peer name other
                ip link set eth0 up; ip link set other up"
            echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"}]}'"#,
            &["within 10 s", "eth0", "10.9.0.2"],
        ),
        (
            "a plugin that fails",
            &good,
            custom("lab-none"),
            fail,
            &["lab-none", "ADD", "no room: try later"],
        ),
        (
            "a plugin that is missing",
            &good,
            custom("nonesuch"),
            answer,
            &["\"nonesuch\"", "containernetworking-plugins", "--cni-bin"],
        ),
        (
            "no JSON",
            &good,
            "{".into(),
            answer,
            &["cni.conf", "no CNI configuration"],
        ),
        (
            "no type",
            &good,
            r#"{"cniVersion":"1.0.0","name":"a"}"#.into(),
            answer,
            &["cni.conf", "\"type\""],
        ),
    ];
    for (what, manifest, conf, script, words) in cases {
        let lab = Lab::new();
        let data = lab.path().join("ipam");
        let conf = lab.cni(&conf.replace("DATA", data.to_str().unwrap()));
        let bin = lab.plugin("lab-none", script);
        refuse_on_network(
            &lab,
            what,
            manifest,
            &["--cni-conf", &conf, "--cni-bin", &bin],
            words,
        );
    }
    let lab = Lab::new();
    let none = lab.path().join("none.conf");
    let args = ["--cni-conf", none.to_str().unwrap()];
    refuse(
        &lab,
        "no configuration",
        &good,
        &args,
        &["none.conf", "No such file"],
    );
    let further = with("pod: {}", "multus: {networkName: blue}");
    let words: Words = &["\"blue\"", "--network blue=FILE"];
    refuse(&lab, "no configuration for multus", &further, &[], words);
    let conf = lab.cni(&bridge(""));
    let args = ["--cni-conf", &conf, "--until", "guest-ready"];
    let words: Words = &["no address", "--until"];
    refuse_on_network(&lab, "nothing to wait for", &good, &args, words);
}

/// As [`refuse`], where the bridge of the test's own network may stay: no plugin removes it.
fn refuse_on_network(lab: &Lab, what: &str, manifest: &str, args: &[&str], words: Words) {
    let path = lab.manifest(manifest);
    let output = run(lab, &path, args)
        .output()
        .expect("virt-launcher can be started");
    let _ = lab
        .command("ip")
        .args(["link", "del", "lab0"])
        .stderr(Stdio::null())
        .status();
    assert_refused(lab, what, &output, words);
}

#[test]
fn somebody_else_at_port_67_is_told() {
    let lab = Lab::new();
    // The plugin waits until another container of the pod, a DHCP server itself, listens.
    let script = r#"/usr/lib/cni/bridge || exit
        [ "$CNI_COMMAND" = ADD ] || exit 0
        cd "$(dirname "$0")" && echo "$CNI_NETNS" >asked && mv asked netns
        until [ -e taken.now ]; do sleep 0.01; done"#;
    let bin = lab.plugin("taken", script);
    let data = lab.path().join("ipam");
    let conf = bridge(&format!(
        r#","ipam":{{"type":"host-local","dataDir":"{}","ranges":[[{{"subnet":"10.9.0.0/24"}}]]}}"#,
        data.display()
    ));
    let conf = lab.cni(&conf.replace(r#""type":"bridge""#, r#""type":"taken""#));
    let path = lab.manifest(&vmi("bad", GOOD));
    let mut command = run(&lab, &path, &["--cni-conf", &conf, "--cni-bin", &bin]);
    let launcher = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let netns = eventually("the plugin is called", BOOT, || {
        fs::read_to_string(lab.path().join("bin/netns")).ok()
    });
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let taken = lab.path().join("bin/taken.now");
    let other = std::thread::spawn(move || {
        let netns = fs::File::open(netns.trim()).expect("the pod has a namespace");
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).expect("as root");
        let _socket = std::net::UdpSocket::bind("0.0.0.0:67").expect("nobody else is there");
        fs::write(taken, "").unwrap();
        let _ = ended.recv();
    });
    let output = launcher.wait_with_output().unwrap();
    drop(end);
    other.join().expect("the other container had the port");
    let _ = lab.command("ip").args(["link", "del", "lab0"]).status();
    assert_refused(&lab, "port 67", &output, &["port 67"]);
}
