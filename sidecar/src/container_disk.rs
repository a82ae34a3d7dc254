//! Handing the files of this container to init, as descriptors.
//!
//! One client at a connection, one message to each (`SOCK_SEQPACKET`, unix(7)):
//!
//! ```text
//! descriptors (SCM_RIGHTS)   bytes
//! one                        disk /disk/cirros.qcow2
//! one or two                 kernel /boot/vmlinuz\ninitrd /boot/initrd
//! none                       the reason, one line
//! ```
//!
//! The lines tell the descriptors' roles, in their order, and their names in this container. init
//! keeps the connection: when it has gone, there is nothing left to do.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, listen,
    sendmsg, socket,
};
use nix::sys::stat::{Mode, umask};

use crate::args::Wanted;
use crate::files::{self, FilesError, Opened};
use crate::init::{self, Init};

/// Why nothing can be handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerDiskError {
    /// The image has not what is wanted; init was told.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Nobody can come.
    #[error("cannot listen at {}", .path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A call that has no reason to fail failed.
    #[error("cannot {operation}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn kernel<E: Into<io::Error>>(operation: &'static str) -> impl Fn(E) -> ContainerDiskError {
    move |source| ContainerDiskError::Kernel {
        operation,
        source: source.into(),
    }
}

/// Hands the files over at `socket` until init has gone. SIGTERM ends it only while nobody has
/// come: the kubelet sends it when the guest has yet to shut down.
pub(crate) fn run(socket: &Path, wanted: &Wanted) -> Result<(), ContainerDiskError> {
    let terminations = init::terminations().map_err(kernel("take SIGTERM"))?;
    let opened = files::open(wanted);
    let listener = open_socket(socket).map_err(|source| ContainerDiskError::Listen {
        path: socket.to_owned(),
        source,
    })?;
    let init = Init::watch(&socket.with_file_name(init::LOCK)).map_err(kernel("wait for init"))?;
    let mut clients: Vec<UnixStream> = vec![];
    let mut served = false;
    loop {
        let mut polled = vec![
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(terminations.as_fd(), PollFlags::POLLIN),
            PollFd::new(init.ended(), PollFlags::POLLIN),
        ];
        // Only their end is of interest: that is always told.
        let none = PollFlags::empty();
        polled.extend(clients.iter().map(|it| PollFd::new(it.as_fd(), none)));
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.map_err(kernel("wait for clients"))?,
        };
        let mut happened = polled.iter().map(|it| it.any().unwrap_or(true));
        let [comes, terminated, ended] = [(); 3].map(|()| happened.next().unwrap_or_default());
        let gone: Vec<bool> = happened.collect();
        if ended {
            init.join().map_err(kernel("wait for init"))?;
            break;
        }
        let mut gone = gone.into_iter();
        clients.retain(|_| !gone.next().unwrap_or_default());
        if comes {
            let (client, _) = listener.accept().map_err(kernel("accept a client"))?;
            // One that has left again is found out by `poll`.
            let _ = send(&client, &opened);
            clients.push(client);
            served = true;
        }
        if terminated {
            while let Ok(Some(_)) = terminations.read_signal() {}
        }
        if (served || terminated) && clients.is_empty() {
            break;
        }
    }
    opened.map(drop).map_err(Into::into)
}

/// Listens at a path that is there only when clients can connect.
fn open_socket(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let temporary = path.with_extension("new");
    // init connects as whom it likes.
    let before = umask(Mode::empty());
    let bound = UnixAddr::new(&temporary).and_then(|address| bind(socket.as_raw_fd(), &address));
    umask(before);
    bound?;
    listen(&socket, Backlog::new(16)?)?;
    std::fs::rename(&temporary, path)?;
    Ok(UnixListener::from(socket))
}

fn send(client: &UnixStream, opened: &Result<Vec<Opened>, FilesError>) -> nix::Result<()> {
    let (text, descriptors) = message(opened);
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let rights: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    let bytes = [IoSlice::new(text.as_bytes())];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(client.as_raw_fd(), &bytes, rights, flags, None).map(drop)
}

/// What a client is told, and the descriptors that go with it.
fn message(opened: &Result<Vec<Opened>, FilesError>) -> (String, Vec<i32>) {
    match opened {
        Ok(opened) => {
            let lines = opened.iter().map(|it| {
                let path = it.path.display().to_string();
                format!("{} {}", it.role, path.replace(char::is_control, " "))
            });
            let descriptors = opened.iter().map(|it| it.file.as_raw_fd());
            (lines.collect::<Vec<_>>().join("\n"), descriptors.collect())
        }
        Err(error) => (files::line(error), vec![]),
    }
}
