//! The protocol's rules.

use std::net::Ipv6Addr;

use super::message::{Association, AssociationKind, Kind, Message};

/// What the protocol says to do about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// ADVERTISE what a REQUEST would get.
    Advertise,
    /// REPLY with what each association gets.
    Reply {
        /// To a SOLICIT, in place of an ADVERTISE.
        rapid: bool,
    },
    /// REPLY with the configuration only.
    Inform,
    /// REPLY Success: the client's addresses, of which this is the first, are right.
    Confirm(Ipv6Addr),
    /// REPLY NotOnLink: the client has this address, which is not right.
    Deny(Ipv6Addr),
    /// REPLY Success: the client gave addresses back; one of ours, if it was among them. It stays
    /// reserved: there is nobody else to have it.
    Release(Option<Ipv6Addr>),
    /// REPLY Success: the client found addresses in use by another; one of ours, if it was among
    /// them.
    Decline(Option<Ipv6Addr>),
    /// Not for us, or not to be answered.
    Ignore,
}

/// Decides from a client's message what to do. Pure; the sections are RFC 8415's.
///
/// `addresses` are the client's, `server_id` is our DUID, and `multicast` says whether the message
/// was sent to a multicast address.
pub fn decide(
    addresses: &[Ipv6Addr],
    server_id: &[u8],
    message: &Message<'_>,
    multicast: bool,
) -> Verdict {
    use Kind::*;
    // 16.2 to 16.9: what one server is to do names it, and what each may do names none. Only an
    // INFORMATION-REQUEST (16.12) can be either.
    let named = match message.kind {
        Request | Renew | Release | Decline => message.server_id == Some(server_id),
        Solicit | Confirm | Rebind => message.server_id.is_none(),
        InformationRequest => message.server_id.is_none_or(|id| id == server_id),
    };
    if !named || (message.client_id.is_none() && message.kind != InformationRequest) {
        return Verdict::Ignore;
    }
    // RFC 9915 section 16: unicast is not accepted. RFC 8415 section 18.4 would answer UseMulticast,
    // at which busybox gives its address up, while after silence it comes back by multicast.
    if !multicast {
        return Verdict::Ignore;
    }
    let ours = |address: &Ipv6Addr| addresses.contains(address);
    match message.kind {
        // 18.3.1: nothing is committed to a client that gets nothing.
        Solicit if message.rapid_commit && wants_addresses(message) => {
            Verdict::Reply { rapid: true }
        }
        Solicit => Verdict::Advertise,
        // 18.3.2, 18.3.4 and 18.3.5.
        Request | Renew | Rebind => Verdict::Reply { rapid: false },
        // 18.3.3. We are the authority for this link: no other address is right on it, although it
        // may be in a network of the link, for nobody routes it to the client. Without any address
        // there is nothing to say.
        Confirm => match message.addresses().find(|address| !ours(address)) {
            Some(wrong) => Verdict::Deny(wrong),
            None => match message.addresses().next() {
                Some(first) => Verdict::Confirm(first),
                None => Verdict::Ignore,
            },
        },
        // 18.3.7 and 18.3.8: what is not our address is none of our business, yet the client waits
        // for an answer.
        Release => Verdict::Release(message.addresses().find(ours)),
        Decline => Verdict::Decline(message.addresses().find(ours)),
        // 16.12: it has no association in it.
        InformationRequest if message.associations().next().is_some() => Verdict::Ignore,
        InformationRequest => Verdict::Inform,
    }
}

fn wants_addresses(message: &Message<'_>) -> bool {
    message
        .associations()
        .any(|one| one.kind == AssociationKind::Addresses)
}

/// What an identity association gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// All addresses.
    Addresses {
        /// Whether what other addresses the client has end now, by a lifetime of zero.
        others_end: bool,
    },
    /// Status NoAddrsAvail.
    NoAddresses,
    /// Status NoPrefixAvail.
    NoPrefixes,
}

/// Decides what each association of a SOLICIT, REQUEST, RENEW or REBIND gets. Pure; the sections
/// are RFC 8415's.
///
/// The first IA_NA gets all addresses, of which there may be several (6.6), whoever had them before:
/// there is one client. Temporary addresses and prefixes would have to be routed to it.
///
/// Which addresses the client names makes no difference. In a SOLICIT they are but a wish (18.3.1).
/// What is wrong in a REQUEST would get NotOnLink (18.3.2), so that the client asks again and names
/// none; but busybox, which requests its wish and not what was advertised, never asks again, and
/// each client takes what the reply holds.
pub fn assign<'a>(
    addresses: &[Ipv6Addr],
    message: &Message<'a>,
) -> impl Iterator<Item = (Association<'a>, Assignment)> {
    let mut taken = addresses.is_empty();
    message.associations().map(move |one| {
        let assignment = match one.kind {
            AssociationKind::Prefixes => Assignment::NoPrefixes,
            AssociationKind::Addresses if !std::mem::replace(&mut taken, true) => {
                // 18.3.4 and 18.3.5: only then has the client any.
                let others_end = matches!(message.kind, Kind::Renew | Kind::Rebind);
                Assignment::Addresses { others_end }
            }
            AssociationKind::Addresses | AssociationKind::Temporary => Assignment::NoAddresses,
        };
        (one, assignment)
    })
}
