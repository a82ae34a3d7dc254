//! A program at which somebody types: `virt-launcher console`, or one on a terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::{Lab, eventually};

/// A session at the console.
pub struct Console {
    child: Child,
    keys: ChildStdin,
    printed: Receiver<Vec<u8>>,
    /// Printed and not yet matched.
    text: String,
}

impl Console {
    /// Opens the console of a VM that runs.
    ///
    /// # Panics
    /// Where virt-launcher is not built.
    pub fn open(lab: &Lab, name: &str) -> Self {
        let mut command = lab.launcher();
        command.args(["console", name]);
        Self::start(command)
    }

    /// Starts a program.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let keys = child.stdin.take().expect("it is a pipe");
        let mut stdout = child.stdout.take().expect("it is a pipe");
        let (sender, printed) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys,
            printed,
            text: String::new(),
        }
    }

    /// Types.
    ///
    /// # Panics
    /// Where the session has ended.
    pub fn send(&mut self, text: &str) {
        self.keys
            .write_all(text.as_bytes())
            .expect("the session is open");
    }

    /// Waits until the guest has printed `text`; returns what came before it.
    ///
    /// # Panics
    /// When it does not in time, with all that it printed.
    pub fn expect(&mut self, text: &str, limit: Duration) -> String {
        let until = Instant::now() + limit;
        let mut searched = 0;
        loop {
            if let Some(at) = self.text[searched..].find(text) {
                let at = searched + at;
                let before = self.text[..at].to_owned();
                self.text.drain(..at + text.len());
                return before;
            }
            // Much may come in small pieces; what was read is not read again but for its end.
            let end = self.text.len().saturating_sub(text.len());
            searched = self.text.floor_char_boundary(end);
            let rest = until.saturating_duration_since(Instant::now());
            match self.printed.recv_timeout(rest) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("the console never said {text:?} ({error}):\n{}", self.text),
            }
        }
    }

    /// Waits until the session has ended.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn ended(mut self, limit: Duration) -> ExitStatus {
        eventually("the end of the session", limit, || {
            self.child.try_wait().expect("the child can be waited for")
        })
    }

    /// Runs a shell command in the guest; returns its output.
    ///
    /// # Panics
    /// When it does not come back in time.
    pub fn run(&mut self, command: &str, limit: Duration) -> String {
        // A number of its own, because a new session is shown what earlier ones ran; and typed in
        // two parts, so that the echo of the command line is not taken for its output.
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        self.send(&format!(
            "echo \"=begin\"\"{run}=\"; {command}; echo \"=end\"\"{run}=\"\n"
        ));
        self.expect(&format!("=begin{run}=\r\n"), limit);
        self.expect(&format!("=end{run}="), limit)
    }

    /// Runs a shell command in the guest, again and again until its output has all of `parts`;
    /// returns that.
    ///
    /// # Panics
    /// When it has not, in time.
    pub fn says(&mut self, command: &str, parts: &[&str], limit: Duration) -> String {
        let until = Instant::now() + limit;
        loop {
            let said = self.run(command, limit);
            let Some(missing) = parts.iter().find(|part| !said.contains(**part)) else {
                return said;
            };
            assert!(
                Instant::now() < until,
                "not within {limit:?}: {missing:?} from {command}, but:\n{said}"
            );
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
