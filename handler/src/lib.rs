//! virt-handler: one a node. It offers what launchers need to the kubelet, and tells the cluster
//! what it sees of them.

pub mod actions;
pub mod api;
pub mod devices;
mod events;
pub mod launchers;
pub mod listener;
pub mod metrics;
pub mod node;
pub mod server;
pub mod status;
