//! Fetching the files of the user's images from the containers that have them.
//!
//! ```text
//!  container volumeNAME                          compute
//!  virt-sidecar ── descriptors, their roles ──▶ init ─▶ each worker ─▶ QEMU
//!               ◀─────── a connection ──────────┘  kept for init's life
//! ```
//!
//! The other side runs in a container that a stranger's image furnishes, and is not trusted: what it
//! hands over is a regular file that can be read and not written, or it is refused.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::time::{TimeSpec, TimeVal, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;

/// How long a container that is there may take to answer: it has opened its files by then.
const ANSWER: Duration = Duration::from_secs(60);

/// How often somebody who reads the log is told what is waited for.
const REMINDER: Duration = Duration::from_secs(60);

/// How often a directory is looked at that cannot be watched, in milliseconds.
const LOOK: i64 = 100;

/// Room for two roles and the longest paths, in bytes.
const MESSAGE: usize = 16 * 1024;

/// As many descriptors as a message can carry (`SCM_MAX_FD`): what is received can be closed.
const DESCRIPTORS: usize = 253;

/// What one container handed over.
#[derive(Debug)]
pub struct Handed {
    /// As long as this is open, the container lives.
    pub connection: OwnedFd,
    /// The files, by their roles: `disk`, or `kernel` and `initrd`.
    pub files: Vec<(String, OwnedFd)>,
}

/// Why a container's files cannot be used. Each variant names the container's socket.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The container did not come in time.
    #[error(
        "nobody listens at {} after {} s; see in the pod's status why that container does not run",
        .socket.display(), .waited.as_secs()
    )]
    Absent {
        /// The socket.
        socket: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The socket cannot be waited for, reached or read.
    #[error("cannot {operation} {}", .socket.display())]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// The socket.
        socket: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// The container has not what is wanted; it says why.
    #[error("{0}")]
    Refused(String),
    /// The answer is not what virt-sidecar sends.
    #[error("the answer at {} is not virt-sidecar's: {reason}", .socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Fetches the files of the container that listens, or will listen, at `socket`; it hands over at
/// least one, and one at most for each of the `roles`.
///
/// The kubelet may still be pulling the container's image, for as long as its registry takes: `limit`
/// is for those who would rather fail.
///
/// # Errors
/// [`HandOverError`].
pub fn fetch(
    socket: &Path,
    roles: &[&str],
    limit: Option<Duration>,
) -> Result<Handed, HandOverError> {
    appear(socket, limit)?;
    let failed = |operation| {
        move |source| HandOverError::Socket {
            operation,
            socket: socket.to_owned(),
            source,
        }
    };
    let wrong = |reason: String| HandOverError::Answer {
        socket: socket.to_owned(),
        reason,
    };
    let connection = open(socket).map_err(failed("connect to"))?;
    let (text, descriptors) = receive(&connection).map_err(failed("read from"))?;
    let text = text.ok_or_else(|| wrong("it is too long".to_owned()))?;
    if descriptors.is_empty() {
        return Err(match text.is_empty() {
            true => wrong("it ended without one".to_owned()),
            false => HandOverError::Refused(text.replace(char::is_control, " ")),
        });
    }
    let given = assign(&text, roles, descriptors.len()).map_err(wrong)?;
    for (role, descriptor) in given.iter().zip(&descriptors) {
        check(descriptor.as_fd()).map_err(|reason| wrong(format!("its {role} {reason}")))?;
    }
    let files = given.into_iter().map(str::to_owned).zip(descriptors);
    Ok(Handed {
        connection,
        files: files.collect(),
    })
}

/// Waits for a name in its directory.
fn appear(socket: &Path, limit: Option<Duration>) -> Result<(), HandOverError> {
    let failed = |source| HandOverError::Socket {
        operation: "wait for",
        socket: socket.to_owned(),
        source,
    };
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let began = Instant::now();
    let mut reminder = REMINDER;
    let mut watch = None;
    while !socket.exists() {
        // Most often it is there, and a watch has its price. It is looked for again now that its
        // coming is noticed.
        let Some(arrivals) = &watch else {
            watch = Some(arrivals(directory).map_err(failed)?);
            continue;
        };
        let waited = began.elapsed();
        if limit.is_some_and(|limit| waited >= limit) {
            return Err(HandOverError::Absent {
                socket: socket.to_owned(),
                waited,
            });
        }
        if waited >= reminder {
            reminder = waited + REMINDER;
            eprintln!(
                "virt-launcher: waiting for {}: that container's image may still be pulled",
                socket.display()
            );
        }
        let until = limit.map_or(reminder, |limit| limit.min(reminder));
        let pause = until.saturating_sub(waited) + Duration::from_millis(1);
        let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(arrivals.as_fd(), PollFlags::POLLIN)],
            pause,
        ) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => while read(arrivals, &mut [0; 4096]).is_ok() {},
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(())
}

/// Readable when a name may have come to a directory. Where the kernel watches no more, that is every
/// [`LOOK`]: a user has 128 watches at once (`fs.inotify.max_user_instances`), and all machines of a
/// node are one user.
fn arrivals(directory: &Path) -> nix::Result<OwnedFd> {
    let watched = || {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        watch.add_watch(
            directory,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO,
        )?;
        Ok(watch.into())
    };
    match watched() {
        Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC) => {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            let every = Expiration::Interval(TimeSpec::milliseconds(LOOK));
            timer.set(every, TimerSetTimeFlags::empty())?;
            Ok(timer.into())
        }
        other => other,
    }
}

fn open(path: &Path) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let answer = TimeVal::seconds(ANSWER.as_secs().cast_signed());
    setsockopt(&socket, sockopt::SendTimeout, &answer)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &answer)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// One message and the descriptors that came with it; no text where it did not fit.
fn receive(connection: &OwnedFd) -> nix::Result<(Option<String>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE];
    let mut control = cmsg_space!([RawFd; DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(
        connection.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        flags,
    )?;
    let mut descriptors = vec![];
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            descriptors.extend(received.into_iter().map(own));
        }
    }
    let whole = !message
        .flags
        .intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    let length = message.bytes;
    let text = bytes.get(..length).filter(|_| whole);
    let text = text.map(|text| String::from_utf8_lossy(text).into_owned());
    Ok((text, descriptors))
}

#[expect(unsafe_code, reason = "nix returns received descriptors as numbers")]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made it for this process, and nothing else here knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// The roles of so many descriptors, by the answer's lines.
fn assign<'a>(text: &'a str, roles: &[&str], descriptors: usize) -> Result<Vec<&'a str>, String> {
    let mut given = vec![];
    for line in text.lines() {
        let (role, _) = line.split_once(' ').unwrap_or((line, ""));
        if !roles.contains(&role) || given.contains(&role) {
            return Err(format!("{role:?} was not asked for"));
        }
        given.push(role);
    }
    match given.len() == descriptors {
        true => Ok(given),
        false => Err(format!(
            "it names {} files and hands over {descriptors}",
            given.len()
        )),
    }
}

/// Whether QEMU may have it: a device or a FIFO could block or act, and a descriptor that can be
/// written would let the guest change the image.
fn check(descriptor: BorrowedFd<'_>) -> Result<(), String> {
    let unknown = |errno: Errno| format!("cannot be looked at: {errno}");
    let mode = fstat(descriptor).map_err(unknown)?.st_mode;
    if SFlag::from_bits_truncate(mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err("is no regular file".to_owned());
    }
    let flags = fcntl(descriptor, FcntlArg::F_GETFL).map_err(unknown)?;
    let flags = OFlag::from_bits_retain(flags);
    if flags & OFlag::O_ACCMODE != OFlag::O_RDONLY || flags.contains(OFlag::O_PATH) {
        return Err("is not open for reading alone".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::IoSlice;
    use std::os::unix::net::UnixListener;

    use nix::sys::socket::{Backlog, ControlMessage, bind, listen, sendmsg};

    use super::*;

    /// What `fetch` makes of an answer; nothing is sent where there is no text.
    fn answered(text: Option<&str>, descriptors: &[RawFd], roles: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk0.sock");
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&socket, Backlog::new(1).unwrap()).unwrap();
        let listener = UnixListener::from(socket);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (client, _) = listener.accept().unwrap();
                let Some(text) = text else { return };
                let rights = [ControlMessage::ScmRights(descriptors)];
                let rights: &[_] = if descriptors.is_empty() { &[] } else { &rights };
                let bytes = [IoSlice::new(text.as_bytes())];
                let flags = MsgFlags::empty();
                sendmsg::<()>(client.as_raw_fd(), &bytes, rights, flags, None).unwrap();
            });
            match fetch(&path, roles, Some(ANSWER)) {
                Ok(handed) => format!("{} files", handed.files.len()),
                Err(error) => error.to_string().replace(path.to_str().unwrap(), "SOCKET"),
            }
        })
    }

    #[test]
    fn a_container_is_waited_for_also_where_the_kernel_watches_no_more() {
        const AGAIN: &str = "FERROVIRT_TEST_UNWATCHED";
        if std::env::var_os(AGAIN).is_none() {
            // This test once more, as a user who may have no watches.
            let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
            let name = std::thread::current().name().unwrap().to_owned();
            let ended = std::process::Command::new("unshare")
                .args(["--user", "--map-root-user", "sh", "-c", script])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", &name, "--nocapture"])
                .env(AGAIN, "")
                .output()
                .unwrap();
            return assert!(ended.status.success(), "{ended:?}");
        }
        let refused = Inotify::init(InitFlags::empty()).err();
        assert_eq!(refused, Some(Errno::EMFILE));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk0.sock");
        let limit = Duration::from_millis(300);
        let absent = fetch(&path, &["disk"], Some(limit)).unwrap_err();
        assert!(matches!(absent, HandOverError::Absent { .. }), "{absent}");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| appear(&path, Some(ANSWER)));
            File::create(&path).unwrap();
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn nothing_but_files_to_read_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        let writable = File::create(&path).unwrap();
        let good = File::open(&path).unwrap();
        let device = File::open("/dev/null").unwrap();
        let directory = File::open(dir.path()).unwrap();
        let (fifo, _writer) = std::io::pipe().unwrap();
        let name = nix::fcntl::open(&path, OFlag::O_PATH, nix::sys::stat::Mode::empty()).unwrap();
        let (both, not_regular, not_for_reading) = (
            File::options().read(true).write(true).open(&path).unwrap(),
            "its disk is no regular file",
            "its disk is not open for reading alone",
        );
        let cases = [
            (good.as_raw_fd(), None),
            (device.as_raw_fd(), Some(not_regular)),
            (directory.as_raw_fd(), Some(not_regular)),
            (fifo.as_raw_fd(), Some(not_regular)),
            (writable.as_raw_fd(), Some(not_for_reading)),
            (both.as_raw_fd(), Some(not_for_reading)),
            (name.as_raw_fd(), Some(not_for_reading)),
        ];
        for (descriptor, reason) in cases {
            let expected = match reason {
                None => "1 files".to_owned(),
                Some(reason) => format!("the answer at SOCKET is not virt-sidecar's: {reason}"),
            };
            let text = Some("disk /disk/disk.img");
            assert_eq!(answered(text, &[descriptor], &["disk"]), expected);
        }
    }

    #[test]
    fn an_answer_that_is_not_the_sidecars_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let fd = file.as_raw_fd();
        let wrong = |reason: &str| format!("the answer at SOCKET is not virt-sidecar's: {reason}");
        let long = "x".repeat(MESSAGE + 1);
        let cases: [(Option<&str>, &[RawFd], String); 7] = [
            (None, &[], wrong("it ended without one")),
            (Some(&long), &[], wrong("it is too long")),
            (
                Some("disk a"),
                &[fd, fd],
                wrong("it names 1 files and hands over 2"),
            ),
            (
                Some("disk a\ndisk b"),
                &[fd, fd],
                wrong("\"disk\" was not asked for"),
            ),
            (
                Some("kernel a"),
                &[fd],
                wrong("\"kernel\" was not asked for"),
            ),
            (Some(""), &[fd], wrong("it names 0 files and hands over 1")),
            (Some("no disk\u{1b}[0m\n"), &[], "no disk [0m ".to_owned()),
        ];
        for (text, descriptors, expected) in cases {
            assert_eq!(
                answered(text, descriptors, &["disk"]),
                expected,
                "{text:.32?}"
            );
        }
        // None of those that are not wanted stays open.
        let own = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        let open = || {
            let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let names = all.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            names.filter(|name| *name == own).count()
        };
        let many = [fd; 64];
        assert_eq!(
            answered(Some("disk a"), &many, &["disk"]),
            wrong("it names 1 files and hands over 64")
        );
        assert_eq!(open(), 1);
    }
}
