//! `<clock>` and its timers.

use serde::{Deserialize, Serialize};

use crate::YesNo;

/// The guest's real-time clock (formatdomain.html, "Time keeping").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// What it is set from.
    #[serde(rename = "@offset")]
    pub offset: ClockOffset,
    /// Seconds added (`variable`, and `reset` or seconds with `utc` and `localtime`).
    #[serde(rename = "@adjustment", skip_serializing_if = "Option::is_none")]
    pub adjustment: Option<String>,
    /// What `adjustment` is counted from (`variable` only).
    #[serde(rename = "@basis", skip_serializing_if = "Option::is_none")]
    pub basis: Option<ClockBasis>,
    /// The zone's name (`timezone` only).
    #[serde(rename = "@timezone", skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Seconds since the epoch (`absolute` only).
    #[serde(rename = "@start", skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// The guest's timers.
    #[serde(rename = "timer", default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
}

/// What the guest's clock is set from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockOffset {
    /// UTC.
    #[default]
    #[serde(rename = "utc")]
    Utc,
    /// The host's zone.
    #[serde(rename = "localtime")]
    LocalTime,
    /// A named zone.
    #[serde(rename = "timezone")]
    Timezone,
    /// The basis plus an adjustment.
    #[serde(rename = "variable")]
    Variable,
    /// A fixed moment.
    #[serde(rename = "absolute")]
    Absolute,
}

/// What an adjustment is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockBasis {
    /// UTC.
    #[serde(rename = "utc")]
    Utc,
    /// The host's zone.
    #[serde(rename = "localtime")]
    LocalTime,
}

/// One of the guest's timers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    /// Which.
    #[serde(rename = "@name")]
    pub name: TimerName,
    /// What becomes of ticks that were missed (not kvmclock, hypervclock).
    #[serde(rename = "@tickpolicy", skip_serializing_if = "Option::is_none")]
    pub tick_policy: Option<TickPolicy>,
    /// What it follows (rtc only).
    #[serde(rename = "@track", skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// Hertz (tsc only).
    #[serde(rename = "@frequency", skip_serializing_if = "Option::is_none")]
    pub frequency: Option<u64>,
    /// How it is read (tsc only).
    #[serde(rename = "@mode", skip_serializing_if = "Option::is_none")]
    pub mode: Option<TscMode>,
    /// Whether the guest has it.
    #[serde(rename = "@present", skip_serializing_if = "Option::is_none")]
    pub present: Option<YesNo>,
}

/// The timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerName {
    /// The real-time clock.
    #[serde(rename = "rtc")]
    Rtc,
    /// The 8254.
    #[serde(rename = "pit")]
    Pit,
    /// The high precision event timer.
    #[serde(rename = "hpet")]
    Hpet,
    /// The time stamp counter.
    #[serde(rename = "tsc")]
    Tsc,
    /// KVM's paravirtual clock.
    #[serde(rename = "kvmclock")]
    KvmClock,
    /// Hyper-V's reference TSC.
    #[serde(rename = "hypervclock")]
    HypervClock,
}

/// What becomes of missed ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TickPolicy {
    /// Delivered late, at the normal rate.
    #[serde(rename = "delay")]
    Delay,
    /// Delivered faster until caught up.
    #[serde(rename = "catchup")]
    CatchUp,
    /// Merged into one.
    #[serde(rename = "merge")]
    Merge,
    /// Lost.
    #[serde(rename = "discard")]
    Discard,
}

/// What a timer follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Track {
    /// The host's time since boot.
    #[serde(rename = "boot")]
    Boot,
    /// The guest's run time.
    #[serde(rename = "guest")]
    Guest,
    /// Wall clock time.
    #[serde(rename = "wall")]
    Wall,
    /// Real time.
    #[serde(rename = "realtime")]
    RealTime,
}

/// How the TSC is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TscMode {
    /// Natively where safe.
    #[serde(rename = "auto")]
    Auto,
    /// Natively.
    #[serde(rename = "native")]
    Native,
    /// Trapped.
    #[serde(rename = "emulate")]
    Emulate,
    /// By a protocol.
    #[serde(rename = "paravirt")]
    Paravirt,
    /// Trapped on SMP hosts.
    #[serde(rename = "smpsafe")]
    SmpSafe,
}
