//! A DHCP server (RFC 2131) for exactly one client, with no socket in it.
//!
//! ```text
//! packet -> Message::parse -> decide(&Lease, &Message) -> Verdict -> Responder -> Reply
//! ```
//!
//! [`decide`] holds every rule of the protocol and nothing else. [`Responder`] turns its verdicts
//! into bytes from options that it encoded once, and keeps the only state there is: when the
//! client last declined.

mod answer;
mod lease;
mod message;
mod options;
mod reply;
#[cfg(test)]
mod tests;

pub use answer::{DECLINE_PAUSE, Reply, Responder, Verdict, decide};
pub use lease::{ClasslessRoute, LEASE_SECONDS, LEASE_SECONDS_MIN, Lease, SERVER_ID};
pub use message::{Kind, Message};
