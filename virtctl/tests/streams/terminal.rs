//! `console`, at a terminal and at pipes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;

use super::{Cluster, MOMENT, Running, stderr};

/// A terminal, with somebody at it.
pub(crate) struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    text: String,
    line: OwnedFd,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let pty = openpty(None, None).unwrap();
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            keys,
            shown,
            text: String::new(),
            line: pty.slave,
        }
    }

    pub(crate) fn run(&self, command: &mut Command) -> Running {
        let line = || Stdio::from(self.line.try_clone().unwrap());
        Running::start(command.stdin(line()).stdout(line()).stderr(line()))
    }

    pub(crate) fn expect(&mut self, text: &str) {
        let until = Instant::now() + MOMENT;
        while !self.text.contains(text) {
            let rest = until.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(rest) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("never saw {text:?} ({error}):\n{}", self.text),
            }
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn mode(&self) -> Termios {
        tcgetattr(self.line.as_fd()).unwrap()
    }
}

#[test]
fn the_terminal_is_put_back_whatever_ends_the_session() {
    let cluster = Cluster::new();
    let killed = |signal: Signal| (Some(signal), "", 128 + signal as i32, "");
    for (machine, (signal, keys, status, said)) in [
        ("echoes", (None, "\x1d", 0, "")),
        ("ends", (None, "x", 1, "was closed")),
        ("breaks", (None, "x", 1, "broke")),
        ("echoes", killed(Signal::SIGTERM)),
        ("echoes", killed(Signal::SIGHUP)),
        ("echoes", killed(Signal::SIGINT)),
        ("echoes", killed(Signal::SIGQUIT)),
    ] {
        let mut terminal = Terminal::new();
        let before = terminal.mode();
        let mut session = terminal.run(&mut cluster.virtctl(&["console", machine]));
        terminal.expect("login: ");
        let flags = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        assert!(!terminal.mode().local_flags.intersects(flags), "{machine}");
        if machine == "echoes" {
            // Ctrl-C and Ctrl-Z are the guest's.
            terminal.type_in("\x03\x1aback");
            terminal.expect("\x03\x1aback");
        }
        terminal.type_in(keys);
        if let Some(signal) = signal {
            let pid = Pid::from_raw(session.0.id().try_into().unwrap());
            kill(pid, signal).unwrap();
        }
        let ended = session.ended();
        assert_eq!(ended.code(), Some(status), "{machine} {signal:?}");
        assert_eq!(terminal.mode(), before, "{machine} {signal:?}");
        terminal.expect(said);
    }
}

#[test]
fn a_machine_that_is_not_ready_is_waited_for() {
    let cluster = Cluster::new();
    let mut terminal = Terminal::new();
    let mut session = terminal.run(&mut cluster.virtctl(&["console", "vm/late"]));
    terminal.expect("VMI is not running");
    terminal.expect("Successfully connected to late console");
    terminal.expect("login: ");
    terminal.type_in("\x1d");
    assert!(session.ended().success());
    assert_eq!(
        cluster.server.calls("virtualmachineinstances/late/console"),
        3
    );
}

#[test]
fn a_machine_that_is_not_ready_in_time_is_told() {
    let cluster = Cluster::new();
    let output = cluster
        .virtctl(&["console", "late", "--timeout=0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with("virtctl: "), "{said}");
    assert!(said.contains("VMI is not running"), "{said}");
}

#[test]
fn pipes_carry_a_paste_and_its_echo() {
    let cluster = Cluster::new();
    let mut command = cluster.virtctl(&["console", "echoes"]);
    let mut session = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    // Every byte but the one that leaves the console.
    let paste: Vec<u8> = (0..1 << 20)
        .map(|at: u32| (at % 251) as u8)
        .map(|byte| if byte == 0x1d { 0 } else { byte })
        .collect();
    let mut input = session.0.stdin.take().unwrap();
    let mut output = session.0.stdout.take().unwrap();
    let expected = paste.clone();
    let typing = std::thread::spawn(move || {
        input.write_all(&paste).unwrap();
        input
    });
    let mut printed = vec![0; b"login: ".len() + expected.len()];
    output.read_exact(&mut printed).unwrap();
    // Only now: input that has ended is answered as long as the guest is not silent.
    drop(typing.join().unwrap());
    assert!(printed.strip_prefix(b"login: ") == Some(&expected[..]));
    let mut more = Vec::new();
    output.read_to_end(&mut more).unwrap();
    assert!(session.ended().success());
    assert!(more.is_empty(), "{} bytes too many", more.len());
}
