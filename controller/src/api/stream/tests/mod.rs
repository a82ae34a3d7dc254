//! Streams between real sockets, with a client that is not ours, and frames by the RFC.

mod frames;
mod relays;
