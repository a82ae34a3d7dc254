//! What init gets of a container's files, and how long the container lives: the real program on one
//! side, the launcher's real init code on the other.

#![allow(clippy::unwrap_used, reason = "in tests, helpers included")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use common::{LIMIT, Sidecar, init, until};
use launcher::init::container_disks::{HandOverError, Handed, fetch};

fn start(socket: &Path, arguments: &[&str]) -> Sidecar {
    let socket = socket.to_str().unwrap();
    Sidecar::start(&[&["container-disk", "--socket", socket], arguments].concat())
}

fn contents(handed: &Handed) -> Vec<(String, String)> {
    let read = |(role, file): &(String, std::os::fd::OwnedFd)| {
        let file = File::from(file.try_clone().unwrap());
        let mut text = vec![0; 16];
        let length = file.read_at(&mut text, 0).unwrap();
        text.truncate(length);
        (role.clone(), String::from_utf8(text).unwrap())
    };
    handed.files.iter().map(read).collect()
}

#[test]
fn a_disk_is_handed_over_until_init_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, disk) = (dir.path().join("disk0.sock"), dir.path().join("disk.img"));
    std::fs::write(&disk, "a disk").unwrap();
    let lock = init(dir.path());
    let fetched = {
        let socket = socket.clone();
        // It waits: nobody listens yet.
        std::thread::spawn(move || fetch(&socket, &["disk"], Some(LIMIT)))
    };
    let mut sidecar = start(&socket, &["--image", disk.to_str().unwrap()]);
    let handed = fetched.join().unwrap().unwrap();
    assert_eq!(contents(&handed), [("disk".into(), "a disk".into())]);
    // The guest has yet to shut down.
    sidecar.terminate();
    let again = fetch(&socket, &["disk"], Some(LIMIT)).unwrap();
    assert_eq!(contents(&again), [("disk".into(), "a disk".into())]);
    drop(again);
    assert!(sidecar.runs(), "it ended while init had a connection");
    drop((lock, handed));
    let (status, said) = sidecar.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn kernel_and_initrd_come_by_their_roles() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kernel-boot.sock");
    let [kernel, initrd] = ["kernel", "initrd"].map(|name| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("the {name}")).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let _lock = init(dir.path());
    let _sidecar = start(&socket, &["--initrd", &initrd, "--kernel", &kernel]);
    let handed = fetch(&socket, &["kernel", "initrd"], Some(LIMIT)).unwrap();
    let expected = ["kernel", "initrd"].map(|role| (role.to_owned(), format!("the {role}")));
    assert_eq!(contents(&handed), expected);
    // One that was not asked for is not taken.
    let error = fetch(&socket, &["kernel"], Some(LIMIT)).unwrap_err();
    assert!(matches!(error, HandOverError::Answer { .. }), "{error}");
}

#[test]
fn what_the_image_lacks_is_told_to_init_and_to_the_kubelet() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("disk0.sock");
    let _lock = init(dir.path());
    let sidecar = start(&socket, &["--image", "/absent/disk.img"]);
    let error = fetch(&socket, &["disk"], Some(LIMIT)).unwrap_err();
    let expected = "the image has no file /absent/disk.img that user 107 may read; see its name, and \
                    that it was copied with --chown=107:107: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), expected);
    let (status, said) = sidecar.end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(said, format!("virt-sidecar: {expected}\n"));
}

#[test]
fn an_init_that_ends_before_it_connects_takes_the_container_along() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("disk0.sock");
    let disk = dir.path().join("disk.img");
    File::create(&disk).unwrap();
    let mut sidecar = start(&socket, &["--image", disk.to_str().unwrap()]);
    until("the socket", || socket.exists().then_some(()));
    let lock = init(dir.path());
    assert!(sidecar.runs());
    drop(lock);
    let (status, said) = sidecar.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn sigterm_ends_it_while_nobody_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("disk0.sock");
    let sidecar = start(&socket, &["--image", "/dev/null"]);
    until("the socket", || socket.exists().then_some(()));
    sidecar.terminate();
    let (status, said) = sidecar.end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        said,
        "virt-sidecar: /dev/null of the image is no regular file\n"
    );
}

#[test]
fn a_container_that_does_not_come_is_not_waited_for_beyond_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("disk0.sock");
    let limit = Duration::from_millis(20);
    let error = fetch(&socket, &["disk"], Some(limit)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("nobody listens at {} after 0 s", socket.display())),
        "{error}"
    );
}
