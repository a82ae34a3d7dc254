//! The clock that events are stamped with.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in microseconds: the same for all processes of the node.
pub fn monotonic_us() -> u64 {
    // The clock exists on every Linux; zero would only spoil a figure.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec().unsigned_abs() * 1_000_000 + now.tv_nsec().unsigned_abs() / 1_000
    })
}
