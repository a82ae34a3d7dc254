//! Streams between real sockets, with a client that is not ours, and frames by the RFC.

mod between;
mod datagrams;
mod ends;
mod frames;
mod relays;
