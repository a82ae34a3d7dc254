//! Clients that cannot run here: what their published parameter lists are answered, byte for byte.

use super::*;

/// A pod whose gateway is outside its subnet.
fn pod() -> Lease {
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let route = |destination: &str, router| ClasslessRoute {
        destination: destination.parse().unwrap(),
        router,
    };
    Lease {
        address: "10.1.2.3/32".parse().unwrap(),
        router: Some(gateway),
        routes: vec![route("169.254.1.1/32", NONE), route("0.0.0.0/0", gateway)],
        search: vec!["svc.cluster.local".to_owned()],
        domain: Some("svc.cluster.local".to_owned()),
        tftp_server_name: None,
        boot_file_name: None,
        private: Default::default(),
        ..lease()
    }
}

const ROUTES: &[u8] = &[32, 169, 254, 1, 1, 0, 0, 0, 0, 0, 169, 254, 1, 1];
const SEARCH: &[u8] = b"\x03svc\x07cluster\x05local\0";
const CLIENT_ID: &[u8] = &[1, 2, 0, 0, 0, 0, 1];

/// A client's DISCOVER as it is on the wire, and the settings that it is answered: those behind
/// the client identifier.
fn offered(options: &[(u8, &[u8])]) -> Vec<(u8, Vec<u8>)> {
    let discover = packet(&[&[(53, &[1][..]), (61, CLIENT_ID)], options].concat());
    let reply = reply(pod(), &Message::parse(&discover).unwrap());
    let all: Vec<_> = self::options(&reply)
        .map(|(code, value)| (code, value.to_vec()))
        .collect();
    let owned = |(code, value): (u8, &[u8])| (code, value.to_vec());
    let before: [(u8, &[u8]); 6] = [
        (53, &[2]),
        (54, &[169, 254, 75, 10]),
        (51, &1000_u32.to_be_bytes()),
        (58, &500_u32.to_be_bytes()),
        (59, &875_u32.to_be_bytes()),
        (61, CLIENT_ID),
    ];
    assert_eq!(all[..6], before.map(owned));
    all[6..].to_vec()
}

fn expected(settings: &[(u8, &[u8])]) -> Vec<(u8, Vec<u8>)> {
    settings
        .iter()
        .map(|(code, value)| (*code, value.to_vec()))
        .collect()
}

const MASK: (u8, &[u8]) = (1, &[255, 255, 255, 255]);
const ROUTER: (u8, &[u8]) = (3, &[169, 254, 1, 1]);
const DNS: (u8, &[u8]) = (6, &[10, 96, 0, 10, 192, 0, 2, 53]);
const HOSTNAME: (u8, &[u8]) = (12, b"vm");
const DOMAIN: (u8, &[u8]) = (15, b"svc.cluster.local");
const MTU: (u8, &[u8]) = (26, &[5, 170]);
const NTP: (u8, &[u8]) = (42, &[192, 0, 2, 123]);

#[test]
fn windows_11() {
    let found = offered(&[
        (12, b"DESKTOP-1"),
        (60, b"MSFT 5.0"),
        (
            55,
            &[1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252],
        ),
    ]);
    let settings = [
        MASK,
        ROUTER,
        (121, ROUTES),
        DNS,
        DOMAIN,
        (119, SEARCH),
        MTU,
        HOSTNAME,
        NTP,
    ];
    assert_eq!(found, expected(&settings));
}

#[test]
fn windows_xp_knows_routes_by_microsofts_number() {
    let found = offered(&[
        (60, b"MSFT 5.0"),
        (55, &[1, 15, 3, 6, 44, 46, 47, 31, 33, 249, 43]),
    ]);
    let settings = [
        MASK,
        ROUTER,
        (249, ROUTES),
        DOMAIN,
        DNS,
        MTU,
        HOSTNAME,
        (119, SEARCH),
        NTP,
    ];
    assert_eq!(found, expected(&settings));
}

#[test]
fn macos_asks_for_ninety_days_and_gets_our_time() {
    let found = offered(&[
        (55, &[1, 121, 3, 6, 15, 108, 114, 119, 252, 95, 44, 46]),
        (57, &1500_u16.to_be_bytes()),
        (51, &7_776_000_u32.to_be_bytes()),
        (12, b"Mac"),
    ]);
    let settings = [
        MASK,
        ROUTER,
        (121, ROUTES),
        DNS,
        DOMAIN,
        (119, SEARCH),
        MTU,
        HOSTNAME,
        NTP,
    ];
    assert_eq!(found, expected(&settings));
}
