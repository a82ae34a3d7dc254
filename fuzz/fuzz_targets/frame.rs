//! Whole Ethernet frames, of the guest and of its network, through all of the guest's servers.

#![no_main]

use fuzz::{guests, packets, right_sum, sum, with_right_sum};
use libfuzzer_sys::fuzz_target;
use netbind::serve::Server;

const ETHERNET: usize = 14;

fuzz_target!(|input: &[u8]| {
    for network in guests::networks() {
        let mut server = Server::new(guests::no_sockets(), &network);
        for (now, frame) in packets(input) {
            let frame = match frame.split_at_checked(ETHERNET) {
                Some((ethernet, packet)) => [ethernet, &with_right_sum(packet)].concat(),
                None => frame.to_vec(),
            };
            let [to_guest, to_network] = server.on_guest_frame(&frame, now);
            if let Some(answer) = to_guest.or_else(|| server.on_network_frame(&frame)) {
                let group = answer[0] & 1 == 1;
                assert!(group || answer[..6] == network.mac.0, "for another station");
                assert_ne!(answer[6..12], network.mac.0, "in the guest's name");
                check(&answer, network.mtu);
            }
            if let Some(question) = to_network {
                assert_eq!(question[6..12], network.mac.0, "not in the guest's name");
                assert_eq!(question[12..14], [0x86, 0xdd]);
                assert_eq!((question[20], question[54]), (58, 135), "no solicitation");
                check(&question, network.mtu);
            }
        }
    }
});

/// What holds for every frame that is sent: its lengths and sums are right, and it fits the link.
fn check(frame: &[u8], mtu: u32) {
    let packet = &frame[ETHERNET..];
    assert!(packet.len() <= mtu as usize, "longer than the link's MTU");
    match frame[12..14] {
        [0x08, 0x06] => assert_eq!(packet.len(), 28),
        [0x08, 0x00] => {
            let (header, udp) = packet.split_at(20);
            assert_eq!(
                usize::from(u16::from_be_bytes([header[2], header[3]])),
                packet.len()
            );
            assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
            assert_eq!(sum(&[header]), 0xffff);
            assert_eq!(sum(&[&header[12..], &[0, 17], &udp[4..6], udp]), 0xffff);
        }
        [0x86, 0xdd] => {
            assert_eq!(
                usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40,
                packet.len()
            );
            assert_eq!(right_sum(packet), Some(0xffff));
        }
        _ => panic!("neither ARP nor IP: {:?}", &frame[12..14]),
    }
}
