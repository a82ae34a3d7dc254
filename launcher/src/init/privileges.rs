//! Giving up root and every capability, for good.

use caps::CapSet;
use nix::sys::{prctl, signal::Signal};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// A privilege that could not be given up; the guest must not run then.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A capability set could not be emptied.
    #[error("cannot empty the {set:?} capability set")]
    Capabilities {
        /// Which set.
        set: CapSet,
        /// The kernel's answer.
        source: caps::errors::CapsError,
    },
    /// The user or group could not be changed.
    #[error("cannot become user and group {id} ({step})")]
    Identity {
        /// The user and group wanted.
        id: u32,
        /// The call that failed.
        step: &'static str,
        /// The kernel's answer.
        source: nix::Error,
    },
    /// `PR_SET_NO_NEW_PRIVS` was refused.
    #[error("cannot set no_new_privs")]
    NoNewPrivileges(#[source] nix::Error),
    /// `PR_SET_PDEATHSIG` was refused.
    #[error("cannot arrange to end with the parent")]
    ParentDeath(#[source] nix::Error),
}

/// Becomes user and group `id` with no capability in any set, and no way to gain one
/// (capabilities(7), `PR_SET_NO_NEW_PRIVS`).
///
/// A process that is not root has nothing to give up but the ability to gain.
///
/// # Errors
/// [`PrivilegeError`], one variant a step.
pub fn drop_all(id: u32, die_with_parent: bool) -> Result<(), PrivilegeError> {
    if Uid::effective().is_root() {
        // Bounding first: lowering it takes SETPCAP, which the last step gives up.
        for set in [CapSet::Bounding, CapSet::Ambient, CapSet::Inheritable] {
            caps::clear(None, set)
                .map_err(|source| PrivilegeError::Capabilities { set, source })?;
        }
        let identity = |step| move |source| PrivilegeError::Identity { id, step, source };
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        setgroups(&[group]).map_err(identity("setgroups"))?;
        setresgid(group, group, group).map_err(identity("setresgid"))?;
        // Leaving uid 0 in all three empties the permitted and the effective set.
        setresuid(user, user, user).map_err(identity("setresuid"))?;
    }
    prctl::set_no_new_privs().map_err(PrivilegeError::NoNewPrivileges)?;
    if die_with_parent {
        // A change of identity cancels an earlier request.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(PrivilegeError::ParentDeath)?;
    }
    Ok(())
}
