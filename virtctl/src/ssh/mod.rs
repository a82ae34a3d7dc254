//! The local `ssh` and `scp` at a machine.
//!
//! ```text
//! ssh ─ ProxyCommand ─▶ virtctl port-forward --stdio ─ Stream::Port ─▶ sshd in the guest
//! ```
//!
//! Keys, agents, configuration and exit status are the local client's own.

pub mod arguments;
pub mod destination;
pub mod quote;

pub use destination::{Copy, Destination, Path};
