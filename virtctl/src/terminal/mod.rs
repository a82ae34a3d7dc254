//! The user's terminal at a machine's serial console.
//!
//! ```text
//! keys ─▶ until Ctrl-] ─▶ ByteStream ─▶ guest
//! screen ◀────────────── ByteStream ◀─ guest
//! ```
//!
//! The terminal is in raw mode meanwhile, so that every key but one is the guest's, and as it was
//! before whatever ends the session: [`raw`].

pub mod raw;
pub mod relay;
pub mod signals;

pub use raw::Raw;
pub use relay::{Ended, relay};
pub use signals::Signals;
