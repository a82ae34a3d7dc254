//! At which MAC a guest says that it is found.

use std::net::Ipv6Addr;

use crate::frames::probe;
use crate::lan::frame::{self, mac};
use crate::lan::wire::Wire;
use crate::lan::{OTHER_V6, POD_MAC, POD_V4, POD_V6};
use crate::{Guard, ipv4, ipv6};

const NS: u8 = 135;
const NA: u8 = 136;

/// Options (RFC 4861 section 4.6): where the sender is, where the target is, and RFC 3971's nonce.
const SOURCE: u8 = 1;
const TARGET: u8 = 2;
const NONCE: u8 = 14;

#[test]
fn a_guest_is_found_at_its_own_mac_and_at_no_other() {
    let own = mac(POD_MAC);
    let [own6, other6] = [POD_V6, OTHER_V6].map(ipv6);
    let nobody = Ipv6Addr::UNSPECIFIED;
    let option = |kind: u8, mac: frame::Mac| [&[kind, 1], &mac[..]].concat();
    let here = |kind| option(kind, own);
    let elsewhere = |kind| option(kind, mac("02:00:00:00:00:66"));
    let both = |kind| [here(kind), elsewhere(kind)].concat();
    let hidden = [elsewhere(NONCE), elsewhere(TARGET)].concat();
    // Of sixteen bytes.
    let long = [&[TARGET, 2], &[0; 14][..]].concat();
    let says = |options: &[u8]| frame::neighbour_with(own, own6, NA, own6, options);
    let asks = |options: &[u8]| frame::neighbour_with(own, own6, NS, other6, options);
    let frames = [
        ("NA", says(&here(TARGET)), true),
        ("NA, another MAC", says(&elsewhere(TARGET)), false),
        ("NA, two MACs", says(&both(TARGET)), false),
        ("NA, another MAC behind a nonce", says(&hidden), false),
        ("NA, a long MAC", says(&long), false),
        (
            "NA, fragmented",
            frame::first_fragment(own, own6, NA),
            false,
        ),
        ("NS", asks(&here(SOURCE)), true),
        ("NS, another MAC", asks(&elsewhere(SOURCE)), false),
        ("NS, two MACs", asks(&both(SOURCE)), false),
        (
            "NS, fragmented",
            frame::first_fragment(own, own6, NS),
            false,
        ),
        (
            "DAD with a nonce",
            frame::neighbour_with(own, nobody, NS, own6, &here(NONCE)),
            true,
        ),
    ];
    let lan = Guard::Full.lan();
    let mut guest = Wire::behind(&lan.pod.namespace, "tap0");
    let mut peer = probe(&lan);
    for (number, (what, frame, passes)) in (0_u8..).zip(frames) {
        let after = frame::udp4(own, ipv4(POD_V4), (4001, 4001), &[number]);
        guest.send(&frame);
        guest.send(&after);
        assert_eq!(peer.until(&after).contains(&frame), passes, "{what}");
    }
}
