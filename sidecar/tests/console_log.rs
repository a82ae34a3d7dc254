//! What `kubectl logs` shows of a guest's console.

#![allow(clippy::unwrap_used, reason = "in tests, helpers included")]

mod common;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use common::{LIMIT, Sidecar, init};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

fn start(directory: &Path) -> Sidecar {
    start_by(Sidecar::start, directory)
}

fn start_by(start: fn(&[&str]) -> Sidecar, directory: &Path) -> Sidecar {
    let [file, lock] = ["serial0.log", "init.lock"].map(|name| directory.join(name));
    start(&[
        "console-log",
        "--file",
        file.to_str().unwrap(),
        "--lock",
        lock.to_str().unwrap(),
    ])
}

/// As QEMU opens its log.
fn console(directory: &Path) -> File {
    let path = directory.join("serial0.log");
    let mut options = OpenOptions::new();
    options.append(true).create(true).open(path).unwrap()
}

/// Reads as much as is expected, and compares.
fn expect(sidecar: &mut Sidecar, text: &str) {
    let stdout = sidecar.0.stdout.as_mut().unwrap();
    let mut printed = vec![];
    while printed.len() < text.len() {
        let limit = PollTimeout::try_from(LIMIT).unwrap();
        let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut polled, limit), Ok(1), "{text:?} did not come");
        let mut part = vec![0; text.len() - printed.len()];
        let length = stdout.read(&mut part).unwrap();
        assert_ne!(length, 0, "it ended before {text:?}");
        printed.extend_from_slice(&part[..length]);
    }
    assert_eq!(String::from_utf8_lossy(&printed), text);
}

#[test]
fn all_that_a_guest_prints_is_printed_to_its_last_word() {
    for start in [Sidecar::start, Sidecar::unwatched] {
        is_printed_to_its_last_word(start);
    }
}

fn is_printed_to_its_last_word(start: fn(&[&str]) -> Sidecar) {
    let dir = tempfile::tempdir().unwrap();
    let mut sidecar = start_by(start, dir.path());
    let lock = init(dir.path());
    let mut console = console(dir.path());
    // A prompt is no line.
    for text in ["Linux version 6\n", "login: "] {
        console.write_all(text.as_bytes()).unwrap();
        expect(&mut sidecar, text);
    }
    // The guest has yet to shut down.
    sidecar.terminate();
    console.write_all(b"Power down").unwrap();
    drop(lock);
    expect(&mut sidecar, "Power down");
    let (status, said) = sidecar.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_console_that_was_emptied_is_printed_from_its_new_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = init(dir.path());
    let mut console = console(dir.path());
    console.write_all(b"a long line\n").unwrap();
    let mut sidecar = start(dir.path());
    expect(&mut sidecar, "a long line\n");
    console.set_len(0).unwrap();
    console.write_all(b"short\n").unwrap();
    expect(&mut sidecar, "short\n");
}

#[test]
fn a_link_in_the_consoles_place_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let _lock = init(dir.path());
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    std::os::unix::fs::symlink(&secret, dir.path().join("serial0.log")).unwrap();
    let mut sidecar = start(dir.path());
    let mut stdout = sidecar.0.stdout.take().unwrap();
    let (status, said) = sidecar.end();
    assert_eq!(status.code(), Some(1));
    let mut printed = String::new();
    stdout.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "");
    assert!(said.contains("serial0.log"), "{said}");
}

#[test]
fn sigterm_ends_it_while_init_has_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let mut console = console(dir.path());
    console.write_all(b"early\n").unwrap();
    let mut sidecar = start(dir.path());
    // Printed, so it takes the signal itself by now.
    expect(&mut sidecar, "early\n");
    sidecar.terminate();
    let (status, _) = sidecar.end();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn an_init_that_was_there_and_has_gone_needs_no_console() {
    let dir = tempfile::tempdir().unwrap();
    drop(init(dir.path()));
    let (status, said) = start(dir.path()).end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}
