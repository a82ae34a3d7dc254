//! What agents answer, and what they had better not.

use std::collections::BTreeMap;

use super::*;

/// An agent that knows these answers, and refuses what it does not know as libvirt tells it.
fn agent(
    answers: &[(&'static str, Value)],
) -> impl Fn(&str, i32) -> Result<String, HypervisorError> + use<> {
    let answers: BTreeMap<_, _> = answers.iter().cloned().collect();
    move |command, _| {
        let command: Value = serde_json::from_str(command).unwrap();
        let name = command["execute"].as_str().unwrap();
        let answer = answers.get(name).ok_or(HypervisorError::Libvirt {
            operation: "ask the guest's agent",
            message: format!("unable to execute QEMU agent command '{name}'"),
        })?;
        Ok(json!({"return": answer}).to_string())
    }
}

fn about(commands: &[&str]) -> Value {
    let commands = commands
        .iter()
        .map(|name| json!({"name": name, "enabled": true, "success-response": true}));
    json!({"version": "7.2.22", "supported_commands": commands.collect::<Vec<_>>()})
}

#[test]
fn all_that_an_agent_tells_is_told() {
    let asking = agent(&[
        (
            "guest-info",
            about(&[
                "guest-get-osinfo",
                "guest-get-host-name",
                "guest-get-timezone",
                "guest-network-get-interfaces",
                "guest-get-users",
                "guest-get-fsinfo",
                "guest-fsfreeze-status",
            ]),
        ),
        (
            "guest-get-osinfo",
            json!({"id": "debian", "pretty-name": "Debian 12", "version-id": "12",
                "kernel-release": "6.1.0", "machine": "x86_64"}),
        ),
        ("guest-get-host-name", json!({"host-name": "vm"})),
        ("guest-get-timezone", json!({"zone": "CET", "offset": 3600})),
        (
            "guest-network-get-interfaces",
            json!([{"name": "eth0", "hardware-address": "02:00:00:00:00:01", "ip-addresses": [
                {"ip-address": "10.0.0.2", "ip-address-type": "ipv4", "prefix": 24},
                {"ip-address": "fd00::2", "ip-address-type": "ipv6", "prefix": 128}]}]),
        ),
        (
            "guest-get-users",
            json!([{"user": "root", "login-time": 1.5}]),
        ),
        (
            "guest-get-fsinfo",
            json!([{"name": "vda1", "mountpoint": "/", "type": "ext4", "used-bytes": 1,
                "total-bytes": 2, "disk": []}]),
        ),
        ("guest-fsfreeze-status", json!("thawed")),
    ]);
    let info = gather(&asking).unwrap();
    let os = info.os.unwrap();
    assert_eq!((&*info.agent_version, &*info.hostname), ("7.2.22", "vm"));
    assert_eq!((&*os.id, &*os.kernel_release), ("debian", "6.1.0"));
    assert_eq!(
        (&*info.timezone, info.timezone_offset_seconds),
        ("CET", 3600)
    );
    assert_eq!(info.interfaces[0].mac, "02:00:00:00:00:01");
    assert_eq!(info.interfaces[0].addresses, ["10.0.0.2/24", "fd00::2/128"]);
    assert_eq!(
        (&*info.users[0].name, info.users[0].login_time),
        ("root", 1.5)
    );
    let filesystem = &info.filesystems[0];
    assert_eq!((filesystem.used_bytes, filesystem.total_bytes), (1, 2));
    assert_eq!(info.fs_freeze_status, "thawed");
    assert_eq!(info.supported_commands.len(), 7);
}

#[test]
fn what_an_agent_refuses_or_does_not_know_stays_empty() {
    // The first is refused, and the second would be answered and is not offered.
    let asking = agent(&[
        ("guest-info", about(&["guest-get-osinfo"])),
        ("guest-get-host-name", json!({"host-name": "vm"})),
    ]);
    let info = gather(&asking).unwrap();
    assert_eq!((info.os, &*info.hostname), (None, ""));
}

#[test]
fn an_agent_that_falls_silent_is_not_asked_further() {
    let known = agent(&[(
        "guest-info",
        about(&["guest-get-osinfo", "guest-get-users"]),
    )]);
    let asked = std::cell::Cell::new(0);
    let asking = |command: &str, seconds: i32| {
        asked.set(asked.get() + 1);
        if asked.get() == 1 {
            return known(command, seconds);
        }
        let message = "timed out".to_owned();
        Err(HypervisorError::Agent { message })
    };
    assert!(matches!(
        gather(&asking),
        Err(HypervisorError::Agent { .. })
    ));
    assert_eq!(asked.get(), 2);
}

#[test]
fn what_a_hostile_agent_tells_is_cut_and_cleaned() {
    let addresses = [
        json!({"ip-address": "10.0.0.2", "ip-address-type": "ipv4", "prefix": 33}),
        json!({"ip-address": "10.0.0.2; reboot", "ip-address-type": "ipv4", "prefix": 24}),
        json!({"ip-address": "10.0.0.3", "ip-address-type": "ipv4", "prefix": 24}),
    ];
    let card = json!({"name": "a\u{1b}[2Jb", "hardware-address": "02:00:00:00:00:0z",
        "ip-addresses": addresses});
    let users = vec![json!({"user": "x".repeat(1_000), "login-time": 0}); 1_000];
    let asking = agent(&[
        (
            "guest-info",
            about(&["guest-network-get-interfaces", "guest-get-users"]),
        ),
        ("guest-network-get-interfaces", json!([card])),
        ("guest-get-users", json!(users)),
    ]);
    let info = gather(&asking).unwrap();
    let card = &info.interfaces[0];
    assert_eq!((&*card.name, &*card.mac), ("a[2Jb", ""));
    assert_eq!(card.addresses, ["10.0.0.3/24"]);
    assert_eq!(info.users.len(), MOST);
    assert_eq!(info.users[0].name.len(), LONGEST);
}

#[test]
fn a_command_has_the_status_that_a_shell_would_give_it() {
    let cases = [
        (json!({"exited": false}), None),
        (json!({"exited": true, "exitcode": 3}), Some(3)),
        (json!({"exited": true, "signal": 9}), Some(137)),
        (json!({"exited": true}), Some(-1)),
    ];
    for (answer, expected) in cases {
        let asking = agent(&[("guest-exec-status", answer.clone())]);
        let reply = look(&asking, 1).unwrap();
        assert_eq!(reply.map(|reply| reply.exit_code), expected, "{answer}");
    }
}

#[test]
fn the_first_bytes_of_an_output_are_handed_on() {
    let cases = [0, 1, OUTPUT - 1, OUTPUT, OUTPUT + 1, 3 * OUTPUT];
    for length in cases {
        let text = STANDARD.encode(vec![b'x'; length]);
        assert_eq!(output(&text).unwrap().len(), length.min(OUTPUT), "{length}");
    }
    assert!(output("not base64!").is_err());
}

#[test]
fn an_answer_of_another_shape_is_an_error_and_no_panic() {
    for answer in [json!(null), json!([]), json!({"pid": "x"}), json!({})] {
        let asking = agent(&[("guest-exec", answer.clone())]);
        assert!(start(&asking, &["true".into()]).is_err(), "{answer}");
    }
}
