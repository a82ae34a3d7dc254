//! What is asked of every client of the matrix.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::Path;

use crate::common::guest::{Disk, GUEST_LINK, Guest};
use crate::common::{Process, wait_until};

/// A DHCPv6 client, as its distribution configures it.
pub(crate) trait Client {
    /// Configures it, before each start of the guest.
    fn install(&self, guest: &Guest, disk: &Disk);

    /// Starts it on the guest's interface. It ends, without giving its lease back, with the value.
    /// It is told to ask for the stale address if it would not remember that it had it, and can be
    /// told.
    fn start(&self, guest: &Guest, disk: &Disk, stale: Option<&str>) -> Process;

    /// What it says that it was told; none until it holds a lease.
    fn told(&self, guest: &Guest, disk: &Disk) -> Option<Told>;

    /// What of [`Told`] it never asks for.
    fn never_asks_for(&self) -> &'static [&'static str];

    /// Whether it asks after a reboot whether its lease is still right (RFC 8415 section 18.2.3).
    fn confirms(&self) -> bool {
        false
    }
}

/// What a client was told: `address`, `dns`, `search`, `ntp` and `name`, with blanks between the
/// values of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told(BTreeMap<&'static str, String>);

impl Told {
    /// The values in the order above; what is empty was not told.
    pub(crate) fn of(values: [&str; 5]) -> Self {
        let names = ["address", "dns", "search", "ntp", "name"];
        let told = names.into_iter().zip(values.map(canonical));
        Self(told.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// From a file of names and values, by the names in that order; none if there is no address.
    pub(crate) fn read(path: &Path, names: [&str; 5]) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let values: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        Self::of(names.map(|name| values.get(name).copied().unwrap_or_default())).complete()
    }

    /// None if there is no address.
    pub(crate) fn complete(self) -> Option<Self> {
        self.0.contains_key("address").then_some(self)
    }

    /// All but these.
    pub(crate) fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|name, _| !names.contains(name));
        self
    }
}

/// The values of a list in one form: some clients write all digits of an address, and some make
/// names absolute.
fn canonical(values: &str) -> String {
    let value = |value: &str| match value.parse::<Ipv6Addr>() {
        Ok(address) => address.to_string(),
        Err(_) => value.trim_end_matches('.').to_owned(),
    };
    let values: Vec<_> = values.split_whitespace().map(value).collect();
    values.join(" ")
}

/// Waits until the guest can send: no client asks before its link-local address is unique.
pub(crate) fn settled(guest: &Guest) {
    wait_until("the guest has its link-local address", || {
        let addresses = guest
            .namespace
            .ip(&format!("-6 address show dev {GUEST_LINK}"));
        addresses.contains("scope link") && !addresses.contains("tentative")
    });
}
