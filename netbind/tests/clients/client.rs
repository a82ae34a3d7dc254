//! What is asked of every client of the matrix.

use std::collections::HashMap;

use crate::common::Process;
use crate::common::guest::{Disk, Guest};

/// A DHCP client, as its distribution configures it.
pub(crate) trait Client: Sync {
    fn name(&self) -> &'static str;

    /// Writes its configuration, once a guest.
    fn install(&self, guest: &Guest, disk: &Disk);

    /// Starts it on the guest's interface. It ends, without giving its lease back, with the value.
    fn start(&self, guest: &Guest, disk: &Disk) -> Process;

    /// What it says that it was told; none until it holds a lease.
    fn told(&self, guest: &Guest, disk: &Disk) -> Option<Told>;

    /// Leaves behind what a restart of it would find, beside the disk; false if it would remember
    /// nothing.
    fn remember(&self, _guest: &Guest, _disk: &Disk, _address: &str) -> bool {
        true
    }
}

/// What a client was told, blanks between the values of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) address: String,
    pub(crate) mask: String,
    pub(crate) router: String,
    /// Destinations, each followed by its router.
    pub(crate) routes: String,
    pub(crate) dns: String,
    pub(crate) search: String,
    pub(crate) domain: String,
    pub(crate) hostname: String,
    pub(crate) mtu: String,
    pub(crate) ntp: String,
}

impl Told {
    /// From lines of names and values, by the names for the fields in their order.
    pub(crate) fn read(text: &str, names: [&str; 10]) -> Self {
        let values: HashMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        let [
            address,
            mask,
            router,
            routes,
            dns,
            search,
            domain,
            hostname,
            mtu,
            ntp,
        ] = names.map(|name| values.get(name).copied().unwrap_or_default().to_owned());
        Self {
            address,
            mask,
            router,
            routes,
            dns,
            search,
            domain,
            hostname,
            mtu,
            ntp,
        }
    }
}
