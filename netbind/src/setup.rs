//! The whole, once: what the launcher's init calls.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::apply::{ApplyError, apply, revert};
use crate::conflict;
use crate::discover::{DiscoverError, Expect, discover};
use crate::dns;
use crate::netlink::Netlink;
use crate::network::PodNetwork;
use crate::plan::{
    Binding, DhcpOptions, GuestNetwork, Options, Plan, PlanError, PlumbingMacs, TapOptions, plan,
};
use crate::state::{State, StateError};

/// What to bind, and how.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    /// The pod's interface, usually `eth0`.
    pub interface: String,
    /// What has to be there first, and how long to wait for it.
    pub expect: Expect,
    /// How to connect the guest.
    pub binding: Binding,
    /// Where to keep what was found, on storage that lives as long as the namespace.
    pub state_file: PathBuf,
    /// The tap device for QEMU.
    pub tap: TapOptions,
    /// The pod's resolver configuration, usually `/etc/resolv.conf`; a missing file is an empty one.
    pub resolv_conf: PathBuf,
    /// The guest's host name, for option 12.
    pub hostname: Option<String>,
    /// What the manifest's `dhcpOptions` add.
    pub dhcp: DhcpOptions,
}

/// Why a network could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The pod's network cannot be handed to a guest.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// The binding cannot be made as asked.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel refused a change.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The state file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A DHCP server listens in the namespace, at this port.
    #[error(
        "UDP port {0} is taken in this network namespace: another DHCP server would answer the guest \
         beside ours; stop it"
    )]
    PortTaken(u16),
    /// A link with a name that the binding needs exists, and is not ours.
    #[error(
        "a link named {0} exists already and is not ours; remove it (ip link delete {0}), or name the tap otherwise"
    )]
    NameTaken(String),
    /// The interface is bound already, in another way.
    #[error(
        "{0} is bound to a guest already, with another binding; take that back first (netbind teardown)"
    )]
    OtherBinding(String),
    /// The interface is a port of a bridge, or of another such device, that is not ours.
    #[error(
        "{0} is a port of another link in this namespace already; release it (ip link set {0} nomaster)"
    )]
    Attached(String),
    /// The resolver configuration cannot be read.
    #[error("cannot read {}", path.display())]
    ResolvConf {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The namespace cannot be looked at.
    #[error("cannot read {what}")]
    Look {
        /// What was looked at.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Binds a pod's interface to a guest, in the calling thread's network namespace.
///
/// What was found is on disk before the first change. Run again, after success or after being
/// killed at any moment, it ends with the same network, and the same result.
///
/// # Errors
///
/// [`SetupError`]. A first set-up that fails has taken back what it did. One that was run again
/// leaves the network as it is: try again, or [`teardown`].
pub fn setup(options: &SetupOptions) -> Result<GuestNetwork, SetupError> {
    let Decision {
        fresh,
        network,
        macs,
        plan,
    } = decide(options)?;
    let taken = conflict::dhcp_server(plan.guest.ipv6.is_some());
    let taken = taken.map_err(|source| SetupError::Look {
        what: "the UDP sockets in /proc",
        source,
    })?;
    if let Some(port) = taken {
        return Err(SetupError::PortTaken(port));
    }
    if fresh {
        refuse_foreign(&plan.guest)?;
    }
    let state = State {
        network,
        macs,
        guest: plan.guest,
    };
    state.write(&options.state_file)?;
    if let Err(error) = apply(&plan.steps) {
        // A first set-up leaves nothing behind; a later one never takes a working network away.
        // What failed first is what to tell.
        if fresh {
            let _ = teardown(&TeardownOptions {
                state_file: options.state_file.clone(),
            });
        }
        return Err(error.into());
    }
    Ok(state.guest)
}

/// What [`setup`] would do, changing nothing.
///
/// # Errors
///
/// [`SetupError`], as `setup` would return it.
pub fn preview(options: &SetupOptions) -> Result<(PodNetwork, Plan), SetupError> {
    let Decision { network, plan, .. } = decide(options)?;
    Ok((network, plan))
}

/// What to do, and whether it is done for the first time.
struct Decision {
    fresh: bool,
    network: PodNetwork,
    macs: PlumbingMacs,
    plan: Plan,
}

fn decide(options: &SetupOptions) -> Result<Decision, SetupError> {
    let known = known(options)?;
    let fresh = known.is_none();
    let (network, macs) = match known {
        Some(known) => known,
        None => (
            discover(&options.interface, &options.expect)?,
            random_macs()?,
        ),
    };
    let plan = plan(
        &network,
        &Options {
            binding: options.binding.clone(),
            tap: options.tap.clone(),
            resolv_conf: dns::parse(&read_resolv_conf(&options.resolv_conf)?),
            hostname: options.hostname.clone(),
            dhcp: options.dhcp.clone(),
            macs,
        },
    )?;
    Ok(Decision {
        fresh,
        network,
        macs,
        plan,
    })
}

/// What an earlier set-up of the same interface found and chose; none if there was none. A state
/// file left by another namespace, where the interface was another one, says nothing about this.
fn known(options: &SetupOptions) -> Result<Option<(PodNetwork, PlumbingMacs)>, SetupError> {
    let Some(state) = State::read(&options.state_file)? else {
        return Ok(None);
    };
    let link = open_netlink()?.link(&options.interface);
    let link = link.map_err(|source| SetupError::Look {
        what: "the interface",
        source,
    })?;
    let same = link.is_some_and(|link| {
        link.name == state.network.interface
            && link.index == state.network.index
            && link.mac == Some(state.network.mac)
    });
    if same && !is_same_kind(&state.guest.binding, &options.binding) {
        return Err(SetupError::OtherBinding(options.interface.clone()));
    }
    Ok(same.then_some((state.network, state.macs)))
}

/// Whether a set-up run again ends with the same links. Filter and ports may differ: their table is
/// made anew.
fn is_same_kind(one: &Binding, other: &Binding) -> bool {
    match (one, other) {
        (Binding::Bridge { .. }, Binding::Bridge { .. }) => true,
        (Binding::Masquerade(one), Binding::Masquerade(other)) => {
            (one.ipv4, one.ipv6) == (other.ipv4, other.ipv6)
        }
        _ => false,
    }
}

fn read_resolv_conf(path: &Path) -> Result<String, SetupError> {
    match fs::read(path) {
        // What is not text in it is one bad line, which the reader leaves out.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(SetupError::ResolvConf {
            path: path.to_owned(),
            source,
        }),
    }
}

fn random_macs() -> Result<PlumbingMacs, SetupError> {
    let mut bytes = [0; 12];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(PlumbingMacs::new(bytes)),
        Err(source) => Err(SetupError::Look {
            what: "random bytes",
            source: io::Error::other(source),
        }),
    }
}

/// Refuses to touch what an earlier set-up did not make.
fn refuse_foreign(guest: &GuestNetwork) -> Result<(), SetupError> {
    let mut netlink = open_netlink()?;
    let mut link = |name: &str| {
        let link = netlink.link(name);
        link.map_err(|source| SetupError::Look {
            what: "the namespace's links",
            source,
        })
    };
    for name in [&guest.bridge, &guest.tap] {
        if link(name)?.is_some() {
            return Err(SetupError::NameTaken(name.clone()));
        }
    }
    let bridged = matches!(guest.binding, Binding::Bridge { .. });
    match link(&guest.interface)?.and_then(|link| link.master) {
        Some(_) if bridged => Err(SetupError::Attached(guest.interface.clone())),
        _ => Ok(()),
    }
}

fn open_netlink() -> Result<Netlink, SetupError> {
    Netlink::open().map_err(|source| SetupError::Look {
        what: "the namespace's links",
        source,
    })
}

/// What to take back.
#[derive(Clone, Debug)]
pub struct TeardownOptions {
    /// The state file that [`setup`] wrote.
    pub state_file: PathBuf,
}

/// Why a binding could not be taken back.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// The kernel refused a change.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The state file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The namespace cannot be looked at.
    #[error("cannot read the namespace's links")]
    Look(#[source] io::Error),
}

/// Takes back what [`setup`] did, from any state in between, and removes the state file. Without
/// one, or with that of another namespace, there is nothing to take back. Can be run again after being killed at any moment.
///
/// # Errors
///
/// [`TeardownError`]; the state file then remains, and teardown can be tried again.
pub fn teardown(options: &TeardownOptions) -> Result<(), TeardownError> {
    if let Some(state) = State::read(&options.state_file)?
        && !is_foreign(&state.guest)?
    {
        revert(&state.guest, &state.network)?;
    }
    Ok(State::remove(&options.state_file)?)
}

/// Whether the state file tells of another namespace: the bridge of that name is not the one that
/// was made by it, of which the MAC was chosen at random.
fn is_foreign(guest: &GuestNetwork) -> Result<bool, TeardownError> {
    let bridge = Netlink::open().and_then(|mut netlink| netlink.link(&guest.bridge));
    let bridge = bridge.map_err(TeardownError::Look)?;
    Ok(bridge.is_some_and(|link| link.mac != Some(guest.server_mac)))
}
