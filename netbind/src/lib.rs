//! Binds a pod's network to a guest.
//!
//! ```text
//! discover(interface) -> PodNetwork -> plan(&PodNetwork, &Options) -> Plan -> apply(&steps)
//!                                                                      |
//!                                                                      +-> GuestNetwork -> serve
//! ```
//!
//! [`discover()`] and [`apply()`] talk to the kernel and decide nothing; [`plan()`] decides and knows no
//! kernel; [`serve`] carries packets between the tap and [`dhcp`], [`dhcp6`] and [`ndp`], which know
//! no socket.
//! [`setup`] is the whole, once, safe to run again after a crash at any point, and [`teardown`]
//! takes it back.
//!
//! Everything happens in the network namespace of the calling thread, on that thread.

mod apply;
mod conflict;
pub mod dhcp;
pub mod dhcp6;
mod discover;
pub mod dns;
pub mod ipv6;
mod mac;
mod name;
pub mod ndp;
mod netlink;
mod network;
mod nft;
mod pace;
mod packet;
mod plan;
pub mod serve;
mod setup;
mod state;
mod sysctl;
mod tap;

pub use apply::{ApplyError, apply, revert};
pub use discover::{DiscoverError, Expect, discover};
pub use mac::{Mac, ParseMacError};
pub use network::{
    Address, BridgeNetfilter, Ipv6Link, Ipv6Settings, MAIN_TABLE, Neighbour, PodNetwork, Route,
    Scope,
};
pub use plan::{
    Allowed, Binding, DhcpOptions, Filter, GuestNetwork, Masquerade, Nat, Options, Plan, PlanError,
    PlumbingMacs, Port, Protocol, Step, TapOptions, Translation, bridge_name, plan,
};
pub use serve::Event;
pub use setup::{
    SetupError, SetupOptions, TeardownError, TeardownOptions, preview, setup, teardown,
};
pub use state::{State, StateError};
