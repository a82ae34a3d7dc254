//! `vnc` and `screenshot`.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::Stdio;

use launcher_api::VNC_IN_USE;

use super::server::PICTURE;
use super::{Cluster, MOMENT, Running, program, stderr};

/// What a VNC server says first (RFC 6143, section 7.1.1).
const GREETING: &[u8] = b"RFB 003.008\n";

fn greeted(port: u16) {
    let mut viewer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    viewer.set_read_timeout(Some(MOMENT)).unwrap();
    let mut greeting = [0; GREETING.len()];
    viewer.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, GREETING);
}

#[test]
fn a_proxy_serves_one_viewer_after_the_other() {
    let cluster = Cluster::new();
    let mut command = cluster.virtctl(&["vnc", "guest", "--proxy-only"]);
    let mut running = Running::start(command.stdout(Stdio::piped()));
    let line: serde_json::Value = serde_json::from_str(&running.line()).unwrap();
    let port = line["port"].as_u64().unwrap().try_into().unwrap();
    for sessions in 1..=3 {
        greeted(port);
        // The first one is opened before its viewer comes.
        let path = "virtualmachineinstances/guest/vnc";
        assert_eq!(cluster.server.calls(path), sessions);
    }
}

#[test]
fn the_users_viewer_is_started_and_its_end_is_the_end() {
    let cluster = Cluster::new();
    let viewer = cluster.path().join("my viewer");
    // It takes HOST::PORT, as TigerVNC's does.
    let script = "#!/bin/bash\n\
        exec 3<>/dev/tcp/${1/::/\\/} && read -r greeting <&3 && echo \"$greeting\" && exit $STATUS\n";
    program(&viewer, script);
    for (status, code) in [("0", 0), ("3", 1)] {
        let output = cluster
            .virtctl(&["vnc", "vm/guest", "--vnc-path"])
            .arg(&viewer)
            .env("STATUS", status)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert_eq!(output.stdout, GREETING);
        assert_eq!(stderr(&output).contains("the viewer failed"), code == 1);
    }
}

#[test]
fn a_session_of_somebody_else_is_left_alone_where_asked() {
    let cluster = Cluster::new();
    let arguments = ["vnc", "busy", "--proxy-only", "--preserve-session"];
    let output = cluster.virtctl(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "no port where there is no screen");
    let said = stderr(&output);
    assert!(said.contains(VNC_IN_USE), "{said}");
    assert!(said.contains("--preserve-session"), "{said}");
}

#[test]
fn a_screen_that_cannot_be_reached_is_not_in_use() {
    let cluster = Cluster::new();
    for arguments in [
        &["vnc", "lost", "--proxy-only", "--preserve-session"][..],
        &["screenshot", "lost", "--file=-"],
    ] {
        let output = cluster.virtctl(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let expected = "virtctl: no virt-handler runs there; try again\n";
        assert_eq!(stderr(&output), expected, "{arguments:?}");
    }
}

#[test]
fn a_picture_goes_to_a_file_or_to_standard_output() {
    let cluster = Cluster::new();
    let file = cluster.path().join("screen.png");
    for command in [
        &["screenshot", "guest"][..],
        &["vnc", "screenshot", "guest"],
    ] {
        let output = cluster.virtctl(command).args(["-f", "-"]).output().unwrap();
        assert_eq!(output.stdout, PICTURE, "{}", stderr(&output));
        let output = cluster
            .virtctl(command)
            .arg("-m")
            .arg("-f")
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(fs::read(&file).unwrap(), PICTURE);
        fs::remove_file(&file).unwrap();
    }
    let path = "virtualmachineinstances/guest/vnc/screenshot?moveCursor=true";
    assert_eq!(cluster.server.calls(path), 2);
}
