//! What one DHCP answer costs, from the packet's bytes to the reply's: budget 2 microseconds.

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark, as a test, ends where its input is wrong"
)]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use netbind::Mac;
use netbind::dhcp::{ClasslessRoute, LEASE_SECONDS, Lease, Message, Responder, SERVER_ID};

const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn lease() -> Lease {
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let route = |destination: &str, router| ClasslessRoute {
        destination: destination.parse().unwrap(),
        router,
    };
    Lease {
        client: GUEST,
        address: "10.244.1.7/32".parse().unwrap(),
        router: Some(gateway),
        routes: vec![
            route("169.254.1.1/32", Ipv4Addr::UNSPECIFIED),
            route("0.0.0.0/0", gateway),
        ],
        dns: vec![Ipv4Addr::new(10, 96, 0, 10)],
        search: [
            "default.svc.cluster.local",
            "svc.cluster.local",
            "cluster.local",
        ]
        .map(str::to_owned)
        .to_vec(),
        domain: Some("default.svc.cluster.local".to_owned()),
        hostname: Some("vm".to_owned()),
        mtu: 1450,
        ntp: vec![],
        tftp_server_name: None,
        boot_file_name: None,
        private: [(224, "site".to_owned())].into(),
        server_id: SERVER_ID,
        seconds: LEASE_SECONDS,
    }
}

/// What systemd-networkd sends, with these options before the end.
fn packet(options: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[28..34].copy_from_slice(&GUEST.0);
    packet.extend([99, 130, 83, 99]);
    packet.extend(options);
    packet.extend([57, 2, 5, 220, 61, 7, 1, 2, 0, 0, 0, 0, 1]);
    packet.extend([55, 11, 1, 3, 6, 12, 15, 26, 33, 42, 119, 120, 121, 255]);
    packet
}

fn answer(c: &mut Criterion) {
    let address = [50, 4, 10, 244, 1, 7];
    let discover = packet(&[53, 1, 1]);
    let request = packet(&[&[53, 1, 3, 54, 4, 169, 254, 75, 10][..], &address].concat());
    let stale = packet(&[53, 1, 3, 50, 4, 10, 0, 0, 1]);
    let mut group = c.benchmark_group("answer");
    for (name, packet) in [
        ("discover", &discover),
        ("request", &request),
        ("nak", &stale),
    ] {
        let mut responder = Responder::new(lease());
        group.bench_function(name, |b| {
            b.iter(|| {
                let message = Message::parse(black_box(packet)).unwrap();
                responder.answer(&message, Duration::ZERO).0.unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, answer);
criterion_main!(benches);
