//! The task that owns the VM: feeds [`lifecycle::Vm`] and does what it says.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use launcher::lifecycle::{self, Action, Input, Outcome, Pause, Record, State, Vm};
use launcher::pod::{self, Pod};
use launcher_api::{EventKind, PauseReason, Phase, Status};
use nix::time::{ClockId, clock_gettime};
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::dhcp::{self, Change, LeaseEvent};
use crate::events::Events;
use crate::hypervisor::Hypervisor;
use crate::{agent, live};

/// Lines of QEMU's log that a failure shows.
const LOG_LINES: usize = 8;

/// How long libvirt may take to destroy a domain; its calls wait for QEMU's monitor without limit.
const POWER_OFF: Duration = Duration::from_secs(5);

/// What the VM's task works with.
pub(crate) struct Task {
    pub(crate) pod: Pod,
    pub(crate) domain: String,
    pub(crate) record: Record,
    pub(crate) events: Events,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) hypervisor: Arc<OnceLock<Hypervisor>>,
    /// Where the task tells itself how an action went.
    pub(crate) own: mpsc::UnboundedSender<Input>,
    pub(crate) inputs: mpsc::UnboundedReceiver<Input>,
    pub(crate) leases: mpsc::UnboundedReceiver<LeaseEvent>,
    pub(crate) terminate: Signal,
    pub(crate) grace: Duration,
}

impl Task {
    /// Runs until the VM has ended, and returns how.
    pub(crate) async fn run(mut self) -> Outcome {
        let stop = self.record.stop_deadline_ms.map(remaining);
        let mut vm = Vm::resume(stop);
        let thaw = self.record.thaw_deadline_ms.map(remaining);
        let mut timers = Timers {
            thaw: thaw.map(|rest| Instant::now() + rest),
            ..Timers::default()
        };
        loop {
            let input = tokio::select! {
                Some(input) = self.inputs.recv() => input,
                Some(()) = self.terminate.recv() => Input::StopRequested { grace: self.grace },
                Some(event) = self.leases.recv() => {
                    self.lease(event);
                    continue;
                }
                () = due(timers.retry) => { timers.retry = None; Input::RetryDue }
                () = due(timers.grace) => { timers.grace = None; Input::GraceOver }
                () = due(timers.thaw) => { timers.thaw = None; Input::ThawDue }
            };
            self.announce(&input);
            let actions = vm.step(input);
            self.show(vm.state());
            for action in actions {
                if let Some(outcome) = self.perform(action, &mut timers).await {
                    return outcome;
                }
            }
        }
    }

    /// Tells of what came in, and keeps what the next worker would need of it.
    fn announce(&mut self, input: &Input) {
        match input {
            Input::Started => {
                self.record.started = true;
                self.save();
                self.events
                    .push(EventKind::GuestRunning, "the guest's vCPUs run");
                self.follow();
            }
            Input::StartedPaused => {
                self.record.started = true;
                self.save();
                let message = "the guest is started, and paused as its startStrategy says";
                self.events.push(EventKind::GuestPaused, message);
                self.follow();
            }
            Input::Adopted { .. } => {
                self.record.started = true;
                self.save();
                self.events
                    .push(EventKind::DomainAdopted, "took up the running domain");
                self.follow();
            }
            Input::StopRequested { grace } => {
                let deadline = in_ms(*grace);
                let known = self.record.stop_deadline_ms.unwrap_or(u64::MAX);
                self.record.stop_deadline_ms = Some(known.min(deadline));
                self.save();
                let message = format!("shutdown requested, {} s of grace", grace.as_secs());
                self.events.push(EventKind::ShutdownRequested, message);
            }
            Input::Suspended(pause) => {
                self.events.push(EventKind::GuestPaused, pause.to_string());
            }
            Input::GuestShutdown => self.keep_powering_off(true),
            Input::Rebooted => {
                self.keep_powering_off(false);
                self.keep_thaw(None);
                self.events
                    .push(EventKind::GuestRebooted, "the guest reboots");
            }
            Input::Frozen { thaw_after } => self.keep_thaw(*thaw_after),
            Input::Thawed => self.keep_thaw(None),
            Input::GraceOver => self.events.push(
                EventKind::PoweredOff,
                "the grace period is over: powering the guest off",
            ),
            _ => {}
        }
    }

    fn show(&self, state: &State) {
        self.status.send_modify(|status| {
            let (phase, reason) = match state {
                State::Starting => (Phase::Starting, String::new()),
                State::Running => (Phase::Running, String::new()),
                State::Paused(pause) => (Phase::Paused, pause.to_string()),
                State::ShuttingDown => (Phase::ShuttingDown, String::new()),
                State::PoweringOff => (Phase::ShuttingDown, "powering off".to_owned()),
                State::Ended(Outcome::Succeeded(reason)) => (Phase::Succeeded, reason.clone()),
                State::Ended(Outcome::Failed(reason)) => (Phase::Failed, reason.clone()),
            };
            status.set_phase(phase);
            status.reason = reason;
            status.set_pause_reason(match state {
                State::Paused(Pause::User) => PauseReason::User,
                State::Paused(Pause::IoError) => PauseReason::IoError,
                State::Paused(Pause::Watchdog) => PauseReason::Watchdog,
                State::Paused(Pause::Crashed) => PauseReason::Crashed,
                State::Paused(Pause::Other) => PauseReason::Other,
                _ => PauseReason::Unspecified,
            });
        });
    }

    fn keep_powering_off(&mut self, powering_off: bool) {
        if self.record.powering_off != powering_off {
            self.record.powering_off = powering_off;
            self.save();
        }
    }

    fn keep_thaw(&mut self, after: Option<Duration>) {
        let deadline = after.map(in_ms);
        if self.record.thaw_deadline_ms != deadline {
            self.record.thaw_deadline_ms = deadline;
            self.save();
        }
    }

    /// Has the status follow what the domain tells of itself.
    fn follow(&self) {
        if let Some(hypervisor) = self.hypervisor.get().cloned() {
            let (status, events) = (self.status.clone(), self.events.clone());
            tokio::spawn(live::follow(hypervisor, status, events));
        }
    }

    async fn perform(&mut self, action: Action, timers: &mut Timers) -> Option<Outcome> {
        match action {
            Action::ArmRetry => timers.retry = Some(Instant::now() + lifecycle::RETRY),
            Action::ArmGrace(grace) => {
                let deadline = Instant::now() + grace;
                timers.grace = Some(timers.grace.map_or(deadline, |known| known.min(deadline)));
            }
            Action::PressPowerButton => {
                if let Some(hypervisor) = self.hypervisor.get().cloned() {
                    let events = self.events.clone();
                    // Not waited for: the grace period ends also where QEMU's monitor hangs.
                    tokio::spawn(async move {
                        let pressed = hypervisor.run(|driver| driver.press_power_button()).await;
                        if let Err(error) = pressed {
                            events.push(EventKind::Warning, error.to_string());
                        }
                    });
                }
            }
            Action::ArmThaw(after) => timers.thaw = after.map(|after| Instant::now() + after),
            Action::Thaw => {
                if let Some(hypervisor) = self.hypervisor.get().cloned() {
                    let (events, own) = (self.events.clone(), self.own.clone());
                    tokio::spawn(async move {
                        match hypervisor.call_agent(agent::thaw).await {
                            // The receiver is gone only when the worker ends.
                            Ok(()) => drop(own.send(Input::Thawed)),
                            Err(error) => {
                                let problem = format!("the guest stays frozen: {error}");
                                events.push(EventKind::Warning, problem);
                            }
                        }
                    });
                }
            }
            Action::PowerOff => {
                let hypervisor = self.hypervisor.get()?;
                let destroyed = hypervisor.run(|driver| driver.power_off());
                let problem = match timeout(POWER_OFF, destroyed).await {
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "libvirt does not answer".to_owned(),
                };
                // init's end takes QEMU with it.
                self.events.push(EventKind::Warning, problem);
                return Some(self.finish(Outcome::Succeeded("powered off".into())));
            }
            Action::Finish(outcome) => return Some(self.finish(outcome)),
        }
        None
    }

    fn finish(&mut self, outcome: Outcome) -> Outcome {
        let outcome = match outcome {
            Outcome::Failed(cause) if self.record.started => {
                Outcome::Failed(with_log(cause, &self.pod.qemu_log(&self.domain)))
            }
            other => other,
        };
        self.record.outcome = Some(outcome.clone());
        self.save();
        match &outcome {
            Outcome::Succeeded(reason) => self.events.push(EventKind::Succeeded, reason.clone()),
            Outcome::Failed(cause) => self.events.push(EventKind::Failed, cause.clone()),
        }
        outcome
    }

    fn lease(&mut self, LeaseEvent { interface, told }: LeaseEvent) {
        if let Some(change) = told.change {
            let held = self.record.leased.entry(interface).or_default();
            match change {
                Change::Holds(address) => held.insert(address),
                Change::Left(address) => held.remove(&address),
            };
            self.save();
            let held = &self.record.leased;
            self.status.send_modify(|status| {
                let interfaces = status.interfaces.iter_mut();
                interfaces.for_each(|interface| dhcp::mark(interface, held));
            });
        }
        self.events.push(told.kind, told.message);
    }

    /// A disk that is full must not end the guest: the record only serves a next worker.
    fn save(&self) {
        if let Err(error) = pod::write_json(&self.pod.record(), &self.record) {
            tracing::warn!("{error}");
        }
    }
}

#[derive(Default)]
struct Timers {
    retry: Option<Instant>,
    grace: Option<Instant>,
    thaw: Option<Instant>,
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// `CLOCK_BOOTTIME` in milliseconds: goes on while the node sleeps, and is the same for the
/// next worker.
fn now_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |now| {
        now.tv_sec().unsigned_abs() * 1_000 + now.tv_nsec().unsigned_abs() / 1_000_000
    })
}

/// The deadline that is so far away.
fn in_ms(rest: Duration) -> u64 {
    now_ms() + u64::try_from(rest.as_millis()).unwrap_or(u64::MAX / 2)
}

fn remaining(deadline_ms: u64) -> Duration {
    Duration::from_millis(deadline_ms.saturating_sub(now_ms()))
}

/// `cause`, with the end of QEMU's log: what it said itself, not its command line.
fn with_log(cause: String, log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let said: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with('-'))
        .filter(|line| !line.trim().is_empty() && !line.starts_with('-') && !line.ends_with('\\'))
        .collect();
    if said.is_empty() {
        return cause;
    }
    let end = said[said.len().saturating_sub(LOG_LINES)..].join("\n  ");
    format!("{cause}; the end of its log:\n  {end}")
}

/// How long a guest may take to shut down, by the VMI's `terminationGracePeriodSeconds`: at most what
/// its pod is given, which no clock has trouble with.
pub(crate) fn grace(seconds: Option<i64>) -> Duration {
    let seconds = seconds.unwrap_or(30).max(0);
    Duration::from_secs(u32::try_from(seconds).unwrap_or(u32::MAX).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grace_period_has_an_end() {
        for (seconds, expected) in [
            (None, 30),
            (Some(0), 0),
            (Some(-1), 0),
            (Some(90), 90),
            (Some(i64::MAX), u32::MAX.into()),
        ] {
            let grace = grace(seconds);
            assert_eq!(grace, Duration::from_secs(expected), "{seconds:?}");
            assert!(Instant::now().checked_add(grace).is_some(), "{seconds:?}");
        }
    }

    #[test]
    fn a_failure_shows_what_qemu_said_and_not_how_it_was_started() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let text = "2026-01-01 00:00:00.000+0000: starting up libvirt version: 9.0.0\n\
                    LC_ALL=C \\\nHOME=/x \\\n/usr/bin/qemu-system-x86_64 \\\n\
                    -name guest=x \\\n-msg timestamp=on\n\
                    qemu-system-x86_64: assertion failed\n\
                    2026-01-01 00:00:01.000+0000: shutting down, reason=crashed\n";
        std::fs::write(log.path(), text).unwrap();
        assert_eq!(
            with_log("QEMU ended unexpectedly".into(), log.path()),
            "QEMU ended unexpectedly; the end of its log:\n  \
             qemu-system-x86_64: assertion failed\n  \
             2026-01-01 00:00:01.000+0000: shutting down, reason=crashed"
        );
    }

    #[test]
    fn a_missing_log_leaves_the_cause_alone() {
        assert_eq!(with_log("cause".into(), Path::new("/nonexistent")), "cause");
    }
}
