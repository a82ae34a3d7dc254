//! Clients that cannot run here: what their published option requests are answered.

use super::*;

/// The answer's options in order, but for the identifiers.
fn answered(packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let message = Message::parse(packet).unwrap();
    let (reply, _) = responder().answer(&message, true, Duration::ZERO);
    let reply = reply.unwrap();
    let options = walk(&reply[4..]).into_iter();
    let options = options.filter(|(code, _)| ![code::CLIENT_ID, code::SERVER_ID].contains(code));
    options
        .map(|(code, value)| (code, value.to_vec()))
        .collect()
}

fn elapsed() -> Vec<u8> {
    option(8, &[0, 0])
}

/// Enterprise 311, "MSFT 5.0".
fn vendor_class() -> Vec<u8> {
    option(16, b"\0\0\x01\x37\0\x08MSFT 5.0")
}

/// T1 and T2, and the addresses with their lifetimes.
fn lease() -> (u16, Vec<u8>) {
    let times = [
        &[0, 0, 0, 1][..],
        &500_u32.to_be_bytes(),
        &800_u32.to_be_bytes(),
    ];
    let seconds = 1000_u32.to_be_bytes();
    let addresses = network().addresses.into_iter().flat_map(|address| {
        let value = [&address.octets()[..], &seconds, &seconds].concat();
        option(code::IA_ADDRESS, &value)
    });
    (
        code::IA_NA,
        times.concat().into_iter().chain(addresses).collect(),
    )
}

fn dns() -> (u16, Vec<u8>) {
    let value = network().dns.iter().flat_map(Ipv6Addr::octets).collect();
    (code::DNS, value)
}

fn search() -> (u16, Vec<u8>) {
    let value = b"\x07default\x03svc\x07cluster\x05local\0\x03svc\x07cluster\x05local\0";
    (code::SEARCH, value.to_vec())
}

#[test]
fn windows_soliciting() {
    let packet = packet(
        SOLICIT,
        &[
            elapsed(),
            client_id(),
            ia_na(1, &[]),
            option(code::FQDN, b"\0\x09DESKTOP-1"),
            vendor_class(),
            requested(&[17, 23, 24, 39]),
        ],
    );
    let expected = [
        (code::PREFERENCE, vec![255]),
        lease(),
        dns(),
        search(),
        (code::FQDN, b"\x04\x02vm".to_vec()),
    ];
    assert_eq!(answered(&packet), expected);
}

#[test]
fn windows_asking_for_information() {
    let packet = packet(
        INFORMATION_REQUEST,
        &[
            elapsed(),
            client_id(),
            vendor_class(),
            requested(&[17, 23, 24, 32]),
        ],
    );
    let expected = [
        (code::REFRESH_TIME, 600_u32.to_be_bytes().to_vec()),
        dns(),
        search(),
    ];
    assert_eq!(answered(&packet), expected);
}

#[test]
fn macos_soliciting() {
    let packet = packet(
        SOLICIT,
        &[
            client_id(),
            requested(&[23, 24, 103]),
            elapsed(),
            ia_na(1, &[]),
        ],
    );
    let expected = [(code::PREFERENCE, vec![255]), lease(), dns(), search()];
    assert_eq!(answered(&packet), expected);
}
