//! `spec.domain.clock`: `<clock>`.

use crds::{DomainSpec, HPETTickPolicy, PITTickPolicy, RTCTickPolicy, RTCTimerTrack};
use domain_xml::{Clock, ClockOffset, TickPolicy, Timer, TimerName, Track};

use super::Accelerator;

/// The guest's clock: UTC unless a zone is named.
///
/// With an offset, what the guest changes is kept over reboots; without, a reboot undoes it
/// (libvirt's `adjustment='reset'`).
pub(super) fn clock(spec: &DomainSpec, accelerator: Accelerator) -> Clock {
    let Some(clock) = &spec.clock else {
        return Clock::default();
    };
    let timers = clock.timer.as_ref();
    let timers = timers
        .map(|timers| timers_of(timers, accelerator))
        .unwrap_or_default();
    if let Some(zone) = &clock.timezone {
        return Clock {
            offset: ClockOffset::Timezone,
            timezone: Some(zone.clone()),
            timers,
            ..Clock::default()
        };
    }
    let adjustment = clock.utc.as_ref().map(|utc| match utc.offset_seconds {
        Some(seconds) => seconds.to_string(),
        None => "reset".to_owned(),
    });
    Clock {
        offset: ClockOffset::Utc,
        adjustment,
        timers,
        ..Clock::default()
    }
}

/// The timers that are named, in KubeVirt's order.
fn timers_of(timers: &crds::Timer, accelerator: Accelerator) -> Vec<Timer> {
    let rtc = timers.rtc.as_ref().map(|rtc| Timer {
        tick_policy: rtc.tick_policy.map(|policy| match policy {
            RTCTickPolicy::Delay => TickPolicy::Delay,
            RTCTickPolicy::Catchup => TickPolicy::CatchUp,
        }),
        track: rtc.track.map(|track| match track {
            RTCTimerTrack::Guest => Track::Guest,
            RTCTimerTrack::Wall => Track::Wall,
        }),
        ..timer(TimerName::Rtc, rtc.present)
    });
    let pit = timers.pit.as_ref().map(|pit| Timer {
        tick_policy: pit.tick_policy.map(|policy| match policy {
            PITTickPolicy::Delay => TickPolicy::Delay,
            PITTickPolicy::Catchup => TickPolicy::CatchUp,
            PITTickPolicy::Discard => TickPolicy::Discard,
        }),
        ..timer(TimerName::Pit, pit.present)
    });
    let hpet = timers.hpet.as_ref().map(|hpet| Timer {
        tick_policy: hpet.tick_policy.map(|policy| match policy {
            HPETTickPolicy::Delay => TickPolicy::Delay,
            HPETTickPolicy::Catchup => TickPolicy::CatchUp,
            HPETTickPolicy::Merge => TickPolicy::Merge,
            HPETTickPolicy::Discard => TickPolicy::Discard,
        }),
        ..timer(TimerName::Hpet, hpet.present)
    });
    let paravirtual = accelerator == Accelerator::Kvm;
    let kvm = timers.kvm.as_ref().filter(|_| paravirtual);
    let hyperv = timers.hyperv.as_ref().filter(|_| paravirtual);
    let kvm = kvm.map(|kvm| timer(TimerName::KvmClock, kvm.present));
    let hyperv = hyperv.map(|hyperv| timer(TimerName::HypervClock, hyperv.present));
    [rtc, pit, kvm, hpet, hyperv]
        .into_iter()
        .flatten()
        .collect()
}

fn timer(name: TimerName, present: Option<bool>) -> Timer {
    Timer {
        name,
        tick_policy: None,
        track: None,
        frequency: None,
        mode: None,
        present: Some(present.unwrap_or(true).into()),
    }
}
