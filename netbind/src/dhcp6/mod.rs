//! A DHCPv6 server (RFC 8415) for exactly one client, with no socket in it.
//!
//! ```text
//! packet -> Message::parse -> decide(addresses, server id, &Message) -> Verdict -> Responder -> reply
//!                                 assign(addresses, &Message) -> Assignment, for each IA
//! ```
//!
//! [`decide`] and [`assign`] hold every rule of the protocol and nothing else. [`Responder`] turns
//! what they say into bytes, and keeps the only state there is: when the client last declined.
//!
//! The client is known by its MAC, not by its DUID: the guest's firmware, its initramfs and its
//! system each have a DUID and an IAID of their own, one after the other, and all of them are the
//! one owner of the pod's addresses. So each binding always exists, whatever happened to its client
//! or to us, and there is nothing to store.
//!
//! RFC 9915, which replaces RFC 8415 in most things unchanged, leaves out temporary addresses and
//! unicast from clients; clients of both are served.

mod answer;
mod decide;
mod message;
mod options;
#[cfg(test)]
mod tests;

pub use answer::Responder;
pub use decide::{Assignment, Verdict, assign, decide};
pub use message::{Association, AssociationKind, Kind, Message};
pub use options::server_duid;
