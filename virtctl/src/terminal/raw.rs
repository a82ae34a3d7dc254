//! Raw mode, and the way back from it.

use std::io::{self, IsTerminal};
use std::panic;
use std::sync::{Mutex, MutexGuard, Once, PoisonError, TryLockError};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// What standard input was before. Not in the guard alone: where a panic aborts, nothing is
/// dropped, and the hook has to know.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Standard input in raw mode, where it is a terminal; as before once dropped, and before a panic
/// is told.
#[derive(Debug)]
#[must_use = "the terminal is put back at once"]
pub struct Raw(());

impl Raw {
    /// Puts standard input in raw mode. Where it is no terminal, nothing is done.
    ///
    /// # Errors
    /// The kernel's; the terminal is as before.
    pub fn enter() -> io::Result<Self> {
        let terminal = io::stdin();
        if !terminal.is_terminal() {
            return Ok(Self(()));
        }
        restore_before_panics();
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // Kept first: a panic in between is put right too.
        *before_mode() = Some(before);
        let guard = Self(());
        tcsetattr(&terminal, SetArg::TCSADRAIN, &raw)?;
        Ok(guard)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&mut before_mode());
    }
}

fn before_mode() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Not after what was printed has drained: a terminal that has stopped printing (Ctrl-S, or a
/// window that hangs) would keep the process from ending.
fn restore(before: &mut Option<Termios>) {
    if let Some(before) = before.take() {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
    }
}

/// A message printed in raw mode comes out as stairs, and an abort runs no destructor.
fn restore_before_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            match BEFORE.try_lock() {
                Ok(mut before) => restore(&mut before),
                Err(TryLockError::Poisoned(before)) => restore(&mut before.into_inner()),
                // Whoever holds it restores it, or is this thread.
                Err(TryLockError::WouldBlock) => {}
            }
            previous(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::pty::openpty;
    use nix::unistd::dup2_stdin;

    use super::*;

    #[test]
    fn a_panic_puts_the_terminal_back_without_the_guard() {
        let pty = openpty(None, None).unwrap();
        let mode = || tcgetattr(pty.slave.as_fd()).unwrap();
        // No other test of this process reads its standard input.
        dup2_stdin(&pty.slave).unwrap();
        let before = mode();
        let guard = Raw::enter().unwrap();
        assert_ne!(mode(), before);
        // As where a panic aborts.
        std::mem::forget(guard);
        std::thread::spawn(|| panic!("on purpose"))
            .join()
            .unwrap_err();
        assert_eq!(mode(), before);
    }
}
