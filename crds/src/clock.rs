//! `spec.domain.clock`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// The guest's clock: `utc` or `timezone`, and the timers.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Clock {
    /// The timers that the guest sees.
    pub timer: Option<Timer>,
    /// The clock shows this zone's time, such as `Europe/Berlin`.
    pub timezone: Option<String>,
    /// The clock shows UTC.
    pub utc: Option<ClockOffsetUTC>,
}

/// A clock that shows UTC.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClockOffsetUTC {
    /// Seconds that the clock is ahead of UTC. If given, what the guest changes is kept over
    /// reboots.
    pub offset_seconds: Option<i32>,
}

/// The timers that the guest sees.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timer {
    /// High precision event timer.
    pub hpet: Option<HPETTimer>,
    /// Hyper-V's reference clock, for Windows.
    pub hyperv: Option<HypervTimer>,
    /// KVM's clock.
    pub kvm: Option<KVMTimer>,
    /// Programmable interval timer.
    pub pit: Option<PITTimer>,
    /// Real time clock.
    pub rtc: Option<RTCTimer>,
}

/// High precision event timer.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HPETTimer {
    /// Whether there is one. Defaults to true.
    pub present: Option<bool>,
    /// What becomes of ticks that could not be delivered in time.
    pub tick_policy: Option<HPETTickPolicy>,
}

/// Hyper-V's reference clock.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HypervTimer {
    /// Whether there is one. Defaults to true.
    pub present: Option<bool>,
}

/// KVM's clock.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KVMTimer {
    /// Whether there is one. Defaults to true.
    pub present: Option<bool>,
}

/// Programmable interval timer.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PITTimer {
    /// Whether there is one. Defaults to true.
    pub present: Option<bool>,
    /// What becomes of ticks that could not be delivered in time.
    pub tick_policy: Option<PITTickPolicy>,
}

/// Real time clock.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RTCTimer {
    /// Whether there is one. Defaults to true.
    pub present: Option<bool>,
    /// What becomes of ticks that could not be delivered in time.
    pub tick_policy: Option<RTCTickPolicy>,
    /// What the clock follows.
    pub track: Option<RTCTimerTrack>,
}

/// What becomes of the HPET's late ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HPETTickPolicy {
    /// They are delivered at the normal rate, late.
    Delay,
    /// They are delivered faster until the guest has caught up.
    Catchup,
    /// They become one.
    Merge,
    /// They are dropped.
    Discard,
}

/// What becomes of the PIT's late ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PITTickPolicy {
    /// They are delivered at the normal rate, late.
    Delay,
    /// They are delivered faster until the guest has caught up.
    Catchup,
    /// They are dropped.
    Discard,
}

/// What becomes of the RTC's late ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RTCTickPolicy {
    /// They are delivered at the normal rate, late.
    Delay,
    /// They are delivered faster until the guest has caught up.
    Catchup,
}

/// What the RTC follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RTCTimerTrack {
    /// The guest's time, which stands still while the guest does.
    Guest,
    /// The host's wall clock.
    Wall,
}
