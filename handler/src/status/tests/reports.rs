//! What is shown of an agent, and of a launcher that lies.

use crds::VirtualMachineInstanceNetworkInterface as Shown;
use launcher_api::{GuestInfo, GuestInterface, GuestOs};

use super::*;

fn guest() -> Guest {
    Guest::from(GuestInfo {
        os: Some(GuestOs {
            id: "debian".into(),
            ..GuestOs::default()
        }),
        interfaces: vec![
            interface("lo", "00:00:00:00:00:00", "127.0.0.1/8"),
            interface("enp1s0", "02:00:00:00:00:01", "10.0.2.2/24"),
            interface("docker0", "02:00:00:00:00:99", "172.17.0.1/16"),
        ],
        ..GuestInfo::default()
    })
}

fn interface(name: &str, mac: &str, address: &str) -> GuestInterface {
    GuestInterface {
        name: name.into(),
        mac: mac.into(),
        addresses: vec![address.into()],
    }
}

#[test]
fn an_agent_is_shown_with_what_it_said_in_one_write() {
    let mut connected = told(Told::Running);
    connected.agent_connected = true;
    let unasked = observed(connected);
    let scheduled = vmi("Scheduled", &json!({}));
    let first = written(&scheduled, &pod(), &unasked).unwrap();
    assert_eq!(condition(&first, AGENT_CONNECTED), None);
    let running = applied(&scheduled, first);
    let asked = Observed {
        agent: Agent::Asked(Some(Box::new(guest()))),
        ..unasked.clone()
    };
    let second = written(&running, &pod(), &asked).unwrap();
    assert!(condition(&second, AGENT_CONNECTED).is_some());
    assert_eq!(
        second.guest_os_info.clone().unwrap().id.as_deref(),
        Some("debian")
    );
    let shown = |shown: &Shown| {
        (
            shown.interface_name.clone(),
            shown.info_source.clone().unwrap(),
        )
    };
    let found: Vec<_> = second.interfaces.iter().map(shown).collect();
    let expected = [
        (Some("enp1s0".to_owned()), "domain, guest-agent".to_owned()),
        (None, "domain".to_owned()),
        (Some("docker0".to_owned()), "guest-agent".to_owned()),
    ];
    assert_eq!(found, expected);
    // The pod's address stays, whatever the guest says that it has.
    assert_eq!(
        second.interfaces[0].ip_address.as_deref(),
        Some("10.244.1.5")
    );

    // A handler that is new has not asked yet, and leaves what its predecessor wrote.
    let known = applied(&running, second);
    assert_eq!(
        decide(&known, &pod(), &unasked, true, &time(300)),
        Decision::Nothing
    );
    // A guest that is rebooting has none, and still is of the same system.
    let gone = written(&known, &pod(), &observed(told(Told::Running))).unwrap();
    assert_eq!(condition(&gone, AGENT_CONNECTED), None);
    assert_eq!(gone.interfaces.len(), 2);
    assert!(gone.guest_os_info.is_some());
}

#[test]
fn a_report_is_bounded_and_printable() {
    let long = "x".repeat(1_000_000);
    let mut hostile = told(Told::Failed);
    hostile.reason = format!("line\n\u{1b}[31m\u{202e}{long}");
    hostile.machine = "\0\t ".into();
    hostile.interfaces[0].mac = "02:00:00:00:00:01\nX".into();
    hostile.interfaces[0].addresses = vec![address("fe80::1%eth0"), address("1.2.3.4.5")];
    hostile.interfaces = vec![hostile.interfaces[0].clone(); 100_000];
    hostile.disks = vec![hostile.disks[0].clone(); 100_000];
    hostile.disks[0].size = u64::MAX;
    let report = Report::from(hostile);
    assert!(report.interfaces.len() <= 64 && report.disks.len() <= 64);
    assert_eq!(report.interfaces[0].mac, None);
    assert_eq!(report.interfaces[0].addresses, Vec::<IpAddr>::new());
    assert_eq!(report.disks[0].size, None);
    assert_eq!(report.machine, None);
    let Stage::Ended(Ended::Failed(cause)) = report.stage else {
        panic!("{:?}", report.stage)
    };
    assert!(
        cause.starts_with("line  [31mxxx") && cause.chars().count() <= 250,
        "{cause}"
    );
}

#[test]
fn disks_of_no_volume_are_not_shown() {
    let mut lies = told(Told::Running);
    lies.disks.push(launcher_api::Disk {
        volume: "other".into(),
        target: "vdb".into(),
        size: 1,
    });
    let status = written(&vmi("Scheduled", &json!({})), &pod(), &observed(lies)).unwrap();
    assert_eq!(status.volume_status.len(), 1);
}
