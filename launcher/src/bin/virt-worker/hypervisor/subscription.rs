//! libvirt's callbacks, which only post what happened.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use launcher::lifecycle::{Input, Pause, StopReason};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use virt::connect::Connect;
use virt::sys;

use super::{Result, failed};

/// Who is told.
#[derive(Clone)]
pub(super) struct Subscriber {
    /// What happens to the domain.
    pub(super) inputs: UnboundedSender<Input>,
    /// The guest's agent came or went.
    pub(super) agent: Arc<Notify>,
}

/// libvirt's `virConnectDomainEventGenericCallback`.
type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);

/// The callbacks of a lifecycle and of an agent's: two numbers more.
type Detailed =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);

/// Subscribes to what happens to every domain on the connection.
///
/// # Errors
/// Where libvirt refuses.
#[expect(unsafe_code, reason = "libvirt takes every callback as a generic one")]
pub(super) fn subscribe(connection: &Connect, subscriber: &Subscriber) -> Result<()> {
    // SAFETY: libvirt's VIR_DOMAIN_EVENT_CALLBACK cast: these two kinds of event call back with the
    // detailed signature.
    let [lifecycle, agent] = [lifecycle, agent]
        .map(|callback: Detailed| unsafe { std::mem::transmute::<Detailed, Generic>(callback) });
    let callbacks = [
        (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
        (sys::VIR_DOMAIN_EVENT_ID_REBOOT, reboot as Generic),
        (sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent),
    ];
    for (event, callback) in callbacks {
        let opaque = Box::into_raw(Box::new(subscriber.clone())).cast::<c_void>();
        // SAFETY: the callback has the signature of its event and takes `opaque` for what it is;
        // libvirt hands that to `free`, once.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connection.as_ptr(),
                std::ptr::null_mut(),
                event as c_int,
                Some(callback),
                opaque,
                Some(free),
            )
        };
        if id < 0 {
            return Err(failed("subscribe to events")(
                virt::error::Error::last_error(),
            ));
        }
    }
    Ok(())
}

#[expect(unsafe_code, reason = "libvirt calls it")]
unsafe extern "C" fn free(opaque: *mut c_void) {
    // SAFETY: libvirt calls this once, with the box that was registered.
    drop(unsafe { Box::from_raw(opaque.cast::<Subscriber>()) });
}

#[expect(unsafe_code, reason = "libvirt calls it")]
unsafe extern "C" fn lifecycle(
    _: sys::virConnectPtr,
    _: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: `opaque` is the registered box, alive until `free`.
    let subscriber = unsafe { &*opaque.cast::<Subscriber>() };
    if let Some(input) = input(event, detail) {
        // The receiver is gone only when the worker ends.
        let _ = subscriber.inputs.send(input);
    }
}

#[expect(unsafe_code, reason = "libvirt calls it")]
unsafe extern "C" fn reboot(_: sys::virConnectPtr, _: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: `opaque` is the registered box, alive until `free`.
    let subscriber = unsafe { &*opaque.cast::<Subscriber>() };
    // The receiver is gone only when the worker ends.
    let _ = subscriber.inputs.send(Input::Rebooted);
}

#[expect(unsafe_code, reason = "libvirt calls it")]
unsafe extern "C" fn agent(
    _: sys::virConnectPtr,
    _: sys::virDomainPtr,
    _: c_int,
    _: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: `opaque` is the registered box, alive until `free`.
    let subscriber = unsafe { &*opaque.cast::<Subscriber>() };
    subscriber.agent.notify_one();
}

/// What a lifecycle event means for the VM.
/// <https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainEventType>
fn input(event: c_int, detail: c_int) -> Option<Input> {
    let detail = detail.unsigned_abs();
    Some(match event.unsigned_abs() {
        sys::VIR_DOMAIN_EVENT_RESUMED => Input::Resumed,
        sys::VIR_DOMAIN_EVENT_SUSPENDED => Input::Suspended(match detail {
            sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED => Pause::User,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => Pause::IoError,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => Pause::Watchdog,
            _ => Pause::Other,
        }),
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => Input::GuestShutdown,
        sys::VIR_DOMAIN_EVENT_STOPPED => Input::Stopped(match detail {
            sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => StopReason::Shutdown,
            sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => StopReason::Destroyed,
            sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => StopReason::Crashed,
            sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => StopReason::Failed,
            _ => StopReason::Other,
        }),
        sys::VIR_DOMAIN_EVENT_CRASHED => Input::Stopped(StopReason::Crashed),
        _ => return None,
    })
}

/// Why a domain found paused is so (`virDomainPausedReason`).
pub(super) fn paused(reason: c_int) -> Pause {
    match reason.unsigned_abs() {
        sys::VIR_DOMAIN_PAUSED_USER => Pause::User,
        sys::VIR_DOMAIN_PAUSED_IOERROR => Pause::IoError,
        sys::VIR_DOMAIN_PAUSED_WATCHDOG => Pause::Watchdog,
        sys::VIR_DOMAIN_PAUSED_CRASHED => Pause::Crashed,
        _ => Pause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_inputs() {
        let cases = [
            (sys::VIR_DOMAIN_EVENT_STARTED, 0, None),
            (sys::VIR_DOMAIN_EVENT_RESUMED, 0, Some(Input::Resumed)),
            (
                sys::VIR_DOMAIN_EVENT_SHUTDOWN,
                1,
                Some(Input::GuestShutdown),
            ),
            (
                sys::VIR_DOMAIN_EVENT_STOPPED,
                sys::VIR_DOMAIN_EVENT_STOPPED_FAILED,
                Some(Input::Stopped(StopReason::Failed)),
            ),
            (
                sys::VIR_DOMAIN_EVENT_SUSPENDED,
                sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR,
                Some(Input::Suspended(Pause::IoError)),
            ),
            (
                sys::VIR_DOMAIN_EVENT_SUSPENDED,
                sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED,
                Some(Input::Suspended(Pause::User)),
            ),
        ];
        for (event, detail, expected) in cases {
            assert_eq!(
                input(event as c_int, detail as c_int),
                expected,
                "{event}/{detail}"
            );
        }
    }
}
