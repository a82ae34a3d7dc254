//! what it sees of them.

pub mod devices;
pub mod node;
pub mod server;
