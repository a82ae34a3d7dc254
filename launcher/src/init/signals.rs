//! A request to end that comes while the pod is set up.

use nix::libc::{STDERR_FILENO, c_int};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals that ask for the end.
const REQUESTS: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// Lets a request to end have its way at once, with status 0, and holds every other signal back.
///
/// PID 1 has no default actions: a pod that is deleted while its network or an image is waited for
/// would otherwise stay for its whole grace period.
#[expect(unsafe_code, reason = "a signal's action has no safe form")]
pub(super) fn end_when_asked() -> nix::Result<()> {
    SigSet::all().thread_block()?;
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::all());
    let mut requests = SigSet::empty();
    for request in REQUESTS {
        // SAFETY: the handler only calls what signal-safety(7) allows.
        unsafe { sigaction(request, &action) }?;
        requests.add(request);
    }
    requests.thread_unblock()
}

#[expect(
    unsafe_code,
    reason = "only the raw calls are safe in a signal handler"
)]
extern "C" fn end(_: c_int) {
    const WORDS: &[u8] = b"virt-launcher: asked to end before the VM was started\n";
    // SAFETY: write(2) and _exit(2) are async-signal-safe, and the bytes live for ever.
    unsafe {
        nix::libc::write(STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len());
        nix::libc::_exit(0);
    }
}
