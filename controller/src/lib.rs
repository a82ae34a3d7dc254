//! virt-controller.

pub mod admission;
pub mod api;
pub mod certificates;
pub mod config;
pub mod error;
pub mod lease;
pub mod metrics;
pub mod pod;
pub mod reconcile;
pub mod run;
pub mod server;
pub mod uninstall;
