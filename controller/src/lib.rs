//! virt-controller.

pub mod admission;
pub mod certificates;
pub mod config;
pub mod metrics;
pub mod pod;
pub mod reconcile;
pub mod server;
