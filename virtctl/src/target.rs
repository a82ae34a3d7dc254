//! A machine, wherever it runs.
//!
//! ```text
//! name, flags ─▶ Target ─┬─ Cluster ─ subresources.kubevirt.io ─▶ API server
//!                        └─ Local ─── launcher.sock ────────────▶ launcher on this machine
//! ```

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::stream::{ByteStream, Stream};
use crate::wait::Sights;
use crate::{cluster, local};

/// Which of the two objects a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A VirtualMachine.
    Vm,
    /// A VirtualMachineInstance.
    Vmi,
}

impl Kind {
    /// The kind's plural in paths of the API.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Vm => "virtualmachines",
            Self::Vmi => "virtualmachineinstances",
        }
    }

    /// The kind that a user calls `word`: its short name, singular or plural.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "vm" | "vms" | "virtualmachine" | "virtualmachines" => Some(Self::Vm),
            "vmi" | "vmis" | "virtualmachineinstance" | "virtualmachineinstances" => {
                Some(Self::Vmi)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vm => "VM",
            Self::Vmi => "VMI",
        })
    }
}

/// A machine's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// Which object.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A machine that can be spoken to.
#[derive(Clone, Debug)]
pub enum Target {
    /// In a cluster.
    Cluster(cluster::Machine),
    /// Of `virt-launcher run`, on this machine.
    Local(local::Machine),
}

/// What can be asked of a machine. Seconds are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start it.
    Start {
        /// Its vCPUs stand still until it is unpaused.
        paused: bool,
    },
    /// Shut it down.
    Stop {
        /// Before it is powered off; the machine's own where absent.
        grace_period: Option<Duration>,
    },
    /// Shut it down and start it again.
    Restart {
        /// Before it is powered off; the machine's own where absent.
        grace_period: Option<Duration>,
    },
    /// Stop its vCPUs.
    Pause,
    /// Let them run on.
    Unpause,
    /// Ask the guest to reboot.
    SoftReboot,
    /// Press the reset button.
    Reset,
}

impl Action {
    /// The action in a sentence: `cannot {verb} …`.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Restart { .. } => "restart",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::SoftReboot => "reboot",
            Self::Reset => "reset",
        }
    }
}

/// What the guest's agent can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The guest's system, users and file systems at once: `VirtualMachineInstanceGuestAgentInfo`.
    Os,
    /// Who is logged in: a list in `items`.
    Users,
    /// The mounted file systems: a list in `items`.
    Filesystems,
}

/// A machine did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no such machine, or none of it runs.
    #[error("{message}")]
    NotFound {
        /// The machine.
        name: Name,
        /// What is not there, and where to look for it.
        message: String,
    },
    /// The user may not, or is nobody.
    #[error(
        "{message}; ask the cluster's administrator for the right, or choose another --context"
    )]
    Denied {
        /// Who may not do what.
        message: String,
    },
    /// The machine's state does not allow it, or what was asked makes no sense.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// It is not done here.
    #[error("{message}")]
    Unsupported {
        /// What, and what to do instead.
        message: String,
    },
    /// Nobody answered who could.
    #[error("{message}; try again")]
    Unavailable {
        /// Who does not.
        message: String,
    },
    /// Nobody was reached.
    #[error("cannot reach {server}: {reason}; check that it runs and that the network leads there")]
    Unreachable {
        /// The API server.
        server: String,
        /// The transport's answer.
        reason: String,
    },
    /// The machines on this machine cannot be looked at.
    #[error(transparent)]
    Local(#[from] launcher_api::local::LocalError),
}

/// A stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machine does not run (yet); it may be tried again.
    #[error("{name} is not ready: {message}; start it, or try again once it runs")]
    NotReady {
        /// The machine.
        name: Name,
        /// What it waits for.
        message: String,
    },
    /// Somebody else has the session.
    #[error("{name} is in use: {message}; leave out --preserve-session to take it over")]
    InUse {
        /// The machine.
        name: Name,
        /// What is in use.
        message: String,
    },
    /// As with any call.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Target {
    /// The machine's name.
    pub fn name(&self) -> &Name {
        match self {
            Self::Cluster(machine) => machine.name(),
            Self::Local(machine) => machine.name(),
        }
    }

    /// Opens a stream. Its end is the caller's to notice: nothing is opened again.
    ///
    /// # Errors
    /// [`OpenError`]; on [`OpenError::NotReady`] it may be tried again.
    pub async fn open(&self, stream: Stream) -> Result<ByteStream, OpenError> {
        match self {
            Self::Cluster(machine) => machine.open(stream).await,
            Self::Local(machine) => machine.open(stream).await,
        }
    }

    /// The screen, as a PNG. With `move_cursor`, a screen that sleeps is woken first.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn screenshot(&self, move_cursor: bool) -> Result<Vec<u8>, OpenError> {
        match self {
            Self::Cluster(machine) => machine.screenshot(move_cursor).await,
            Self::Local(machine) => machine.screenshot(move_cursor).await,
        }
    }

    /// Asks for `action`, and returns once it is accepted: it may go on after that. With
    /// `dry_run`, it is only checked whether it would be.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn act(&self, action: Action, dry_run: bool) -> Result<(), CallError> {
        match self {
            Self::Cluster(machine) => machine.act(action, dry_run).await,
            Self::Local(machine) => machine.act(action, dry_run).await,
        }
    }

    /// Asks the guest's agent, and has its answer as KubeVirt's API gives it.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::Refused`] where no agent is connected.
    pub async fn ask(&self, question: Question) -> Result<Value, CallError> {
        match self {
            Self::Cluster(machine) => machine.ask(question).await,
            Self::Local(machine) => machine.ask(question).await,
        }
    }

    /// What is seen of the machine: at once, and again at each change. Ends only with an error.
    pub fn follow(&self) -> Sights<'_> {
        match self {
            Self::Cluster(machine) => machine.follow(),
            Self::Local(machine) => machine.follow(),
        }
    }
}
