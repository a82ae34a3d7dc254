//! The one module that speaks to libvirt.
//!
//! ```text
//!             ┌─job──▶ driver thread ─┐
//!  tokio task ┼─call─▶ lane: calls ───┼─▶ libvirt (embedded QEMU driver)
//!      ▲      └─call─▶ lane: agent ───┘      │ callback
//!      └──────── Input ◀── event-loop thread ◀┘
//! ```
//!
//! libvirt's calls block and its callbacks come on its event loop's thread, so the connection
//! lives on a thread of its own, and a callback only posts a message.
//!
//! The driver's thread starts and ends the domain, and does nothing that a guest could hold up:
//! everything else has a lane. The agent has one of its own, because it is the guest who answers
//! there, or does not.

mod counters;
mod guest;
mod probe;
mod subscription;

use std::ffi::{CString, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use launcher::lifecycle::{Input, Pause, StopReason};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, Semaphore, oneshot};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::{event, sys};

pub(crate) use counters::Counters;
pub(crate) use guest::Guest;
use subscription::Subscriber;

/// The embedded driver's settings: nothing beside it (no virtlogd), nothing that needs
/// privilege, and no cgroup of libvirt's own, which would take QEMU out of the pod's.
/// <https://libvirt.org/drvqemu.html#embedded-driver>
const QEMU_CONF: &str = "\
stdio_handler = \"file\"
cgroup_controllers = [ ]
security_driver = \"none\"
remember_owner = 0
namespaces = [ ]
";

/// How long a running domain's monitor may take to be back after a new connection.
const RECONNECT: Duration = Duration::from_secs(10);

/// How long a caller waits for one of [`Guest`]'s calls and those before it.
const CALLS: Duration = Duration::from_secs(15);

/// The same where the guest's agent is asked: libvirt gives it a minute to shut its guest down.
const AGENT: Duration = Duration::from_secs(75);

/// Why libvirt could not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HypervisorError {
    /// The embedded driver's directory cannot be made.
    #[error("cannot prepare libvirt's directory {path}")]
    Root {
        path: PathBuf,
        source: std::io::Error,
    },
    /// libvirt refused.
    #[error("libvirt cannot {operation}: {message}")]
    Libvirt {
        operation: &'static str,
        message: String,
    },
    /// The driver's module is not installed.
    #[error(
        "libvirt has no QEMU driver here; install it (Debian: apt-get install \
         libvirt-daemon-driver-qemu): {message}"
    )]
    NoDriver { message: String },
    /// The monitor of a running domain did not come back.
    #[error("QEMU's monitor did not answer within {} s of reconnecting", RECONNECT.as_secs())]
    Monitor,
    /// The guest's agent is away, or hangs.
    #[error("the guest's agent does not answer: {message}")]
    Agent { message: String },
    /// A call before it hangs.
    #[error("libvirt does not answer; try again")]
    Busy,
    /// The driver's thread is gone.
    #[error("the connection to libvirt is closed")]
    Closed,
}

type Result<T> = std::result::Result<T, HypervisorError>;

fn failed(operation: &'static str) -> impl Fn(virt::error::Error) -> HypervisorError {
    move |error| {
        let message = error.message().to_owned();
        match error.code() {
            ErrorNumber::AgentUnresponsive
            | ErrorNumber::AgentUnsynced
            | ErrorNumber::AgentCommandTimeout => HypervisorError::Agent { message },
            _ => HypervisorError::Libvirt { operation, message },
        }
    }
}

type Job = Box<dyn FnOnce(&mut Driver) + Send>;

/// The one domain, once it is defined.
type Slot = Arc<Mutex<Option<Domain>>>;

/// A handle to the connection.
#[derive(Clone)]
pub(crate) struct Hypervisor {
    jobs: mpsc::Sender<Job>,
    connection: Connect,
    root: PathBuf,
    domain: Slot,
    calls: Lane,
    agent: Lane,
    agent_changed: Arc<Notify>,
}

impl Hypervisor {
    /// Opens the embedded driver at `root`; what happens to the domain arrives at `events`.
    ///
    /// # Errors
    /// Where the directory cannot be made or the driver cannot be opened.
    pub(crate) async fn open(root: PathBuf, events: UnboundedSender<Input>) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (opened, answer) = oneshot::channel();
        let agent_changed = Arc::<Notify>::default();
        let subscriber = Subscriber {
            inputs: events,
            agent: agent_changed.clone(),
        };
        let directory = root.clone();
        std::thread::Builder::new()
            .name("libvirt".into())
            .spawn(move || match Driver::open(&directory, &subscriber) {
                Ok(mut driver) => {
                    // The other side may have given up waiting; jobs then never come.
                    let _ = opened.send(Ok((driver.connection.clone(), driver.domain.clone())));
                    while let Ok(job) = inbox.recv() {
                        job(&mut driver);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|_| HypervisorError::Closed)?;
        let (connection, domain) = answer.await.map_err(|_| HypervisorError::Closed)??;
        Ok(Self {
            jobs,
            connection,
            root,
            domain,
            calls: Lane::new(CALLS),
            agent: Lane::new(AGENT),
            agent_changed,
        })
    }

    /// Runs `job` on the connection's thread.
    ///
    /// # Errors
    /// The job's own, or [`HypervisorError::Closed`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Driver) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, answer) = oneshot::channel();
        self.jobs
            .send(Box::new(move |driver| {
                let _ = done.send(job(driver));
            }))
            .map_err(|_| HypervisorError::Closed)?;
        answer.await.map_err(|_| HypervisorError::Closed)?
    }

    /// Asks something of the domain.
    ///
    /// # Errors
    /// The call's own, and [`HypervisorError::Busy`] where libvirt hangs.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Guest) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let guest = self.guest()?;
        self.calls.run(move || call(&guest)).await
    }

    /// Asks something of the guest's agent.
    ///
    /// # Errors
    /// The call's own, and [`HypervisorError::Busy`] where the agent has too many to answer.
    pub(crate) async fn call_agent<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Guest) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let guest = self.guest()?;
        self.agent.run(move || call(&guest)).await
    }

    /// Waits until the guest's agent has come or gone since it was last waited for.
    pub(crate) async fn agent_changed(&self) {
        self.agent_changed.notified().await;
    }

    fn guest(&self) -> Result<Guest> {
        Ok(Guest {
            connection: self.connection.clone(),
            domain: domain_in(&self.domain)?,
            root: self.root.clone(),
        })
    }
}

/// Calls that have their turn one after another, on a thread that ends when none comes.
#[derive(Clone)]
struct Lane {
    turn: Arc<Semaphore>,
    patience: Duration,
}

impl Lane {
    fn new(patience: Duration) -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            patience,
        }
    }

    /// Runs `call` when it has its turn. A caller who goes away before leaves the queue; a call
    /// that has begun ends also without its caller.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.turn.clone().acquire_owned();
        let called = async {
            let turn = turn.await.map_err(|_| HypervisorError::Closed)?;
            let call = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                call()
            });
            call.await.map_err(|_| HypervisorError::Closed)?
        };
        let answer = tokio::time::timeout(self.patience, called).await;
        answer.map_err(|_| HypervisorError::Busy)?
    }
}

fn domain_in(slot: &Slot) -> Result<Domain> {
    let domain = slot.lock().unwrap_or_else(PoisonError::into_inner);
    domain.clone().ok_or(HypervisorError::Libvirt {
        operation: "find the domain",
        message: "it is not defined yet".into(),
    })
}

/// What was found at the driver's root when it was opened.
pub(crate) enum Found {
    /// No domain, or one that never ran.
    Nothing,
    /// A domain that runs; `paused` tells why its vCPUs stand still.
    Running { paused: Option<Pause> },
    /// A domain that is over.
    Stopped(StopReason),
}

/// The connection and the one domain that it ever holds.
pub(crate) struct Driver {
    connection: Connect,
    domain: Slot,
}

impl Driver {
    fn open(root: &Path, subscriber: &Subscriber) -> Result<Self> {
        write_settings(root).map_err(|source| HypervisorError::Root {
            path: root.to_owned(),
            source,
        })?;
        silence();
        event::event_register_default_impl().map_err(failed("start its event loop"))?;
        std::thread::Builder::new()
            .name("libvirt-events".into())
            // An error here is a broken descriptor of somebody else's; the loop goes on.
            .spawn(|| {
                loop {
                    let _ = event::event_run_default_impl();
                }
            })
            .map_err(|source| HypervisorError::Root {
                path: root.to_owned(),
                source,
            })?;
        let uri = format!("qemu:///embed?root={}", root.display());
        let connection = Connect::open(Some(&uri)).map_err(|error| {
            let message = error.message().to_owned();
            match error.code() {
                ErrorNumber::NoConnect | ErrorNumber::NoSupport => {
                    HypervisorError::NoDriver { message }
                }
                _ if message.contains("module") => HypervisorError::NoDriver { message },
                _ => HypervisorError::Libvirt {
                    operation: "open its QEMU driver",
                    message,
                },
            }
        })?;
        subscription::subscribe(&connection, subscriber)?;
        let domain = connection
            .list_all_domains(0)
            .map_err(failed("list its domains"))?
            .into_iter()
            .next();
        Ok(Self {
            connection,
            domain: Arc::new(Mutex::new(domain)),
        })
    }

    /// What became of the domain of an earlier worker.
    ///
    /// # Errors
    /// Where the state cannot be read, or the monitor of a running domain stays away.
    pub(crate) fn find(&self) -> Result<Found> {
        let Ok(domain) = self.domain() else {
            return Ok(Found::Nothing);
        };
        if domain.is_active().map_err(failed("look at the domain"))? {
            await_monitor(&domain)?;
        }
        let (state, reason) = domain
            .get_state()
            .map_err(failed("read the domain's state"))?;
        Ok(match state {
            sys::VIR_DOMAIN_SHUTOFF => match u32::try_from(reason) {
                Ok(sys::VIR_DOMAIN_SHUTOFF_UNKNOWN) => Found::Nothing,
                Ok(sys::VIR_DOMAIN_SHUTOFF_SHUTDOWN) => Found::Stopped(StopReason::Shutdown),
                Ok(sys::VIR_DOMAIN_SHUTOFF_DESTROYED) => Found::Stopped(StopReason::Destroyed),
                // What a reconnecting driver says of a QEMU that it did not find.
                _ => Found::Stopped(StopReason::Failed),
            },
            sys::VIR_DOMAIN_PAUSED => Found::Running {
                paused: Some(subscription::paused(reason)),
            },
            _ => Found::Running { paused: None },
        })
    }

    /// Defines the domain; it replaces one that never ran. `descriptors` are what its disks name by
    /// `fdgroup`: the start that follows takes them.
    ///
    /// # Errors
    /// libvirt's own words on what it does not like in the XML.
    pub(crate) fn define(&self, xml: &str, descriptors: Vec<(String, OwnedFd)>) -> Result<()> {
        let domain =
            Domain::define_xml(&self.connection, xml).map_err(failed("define the domain"))?;
        for (group, descriptor) in descriptors {
            associate(&domain, &group, descriptor.as_fd())?;
        }
        *self.domain.lock().unwrap_or_else(PoisonError::into_inner) = Some(domain);
        Ok(())
    }

    /// Starts the defined domain; returns once its vCPUs run, or wait where it is started `paused`.
    ///
    /// # Errors
    /// libvirt's own words, with QEMU's where it ended.
    pub(crate) fn start(&self, paused: bool) -> Result<()> {
        let flags = if paused {
            sys::VIR_DOMAIN_START_PAUSED
        } else {
            0
        };
        self.domain()?
            .create_with_flags(flags)
            .map_err(failed("start the domain"))
            .map(drop)
    }

    /// Presses the ACPI power button.
    ///
    /// # Errors
    /// Where the monitor does not take it.
    pub(crate) fn press_power_button(&self) -> Result<()> {
        self.domain()?
            .shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
            .map_err(failed("press the power button"))
            .map(drop)
    }

    /// Ends QEMU.
    ///
    /// # Errors
    /// Where QEMU cannot be ended.
    pub(crate) fn power_off(&self) -> Result<()> {
        self.domain()?
            .destroy()
            .map_err(failed("power the domain off"))
    }

    fn domain(&self) -> Result<Domain> {
        domain_in(&self.domain)
    }
}

/// A command sent before a reopened driver has its monitor back races with that.
fn await_monitor(domain: &Domain) -> Result<()> {
    let deadline = Instant::now() + RECONNECT;
    while Instant::now() < deadline {
        let ready = domain
            .qemu_monitor_command(r#"{"execute":"query-status"}"#, 0)
            .is_ok();
        if ready || !domain.is_active().unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(HypervisorError::Monitor)
}

fn write_settings(root: &Path) -> std::io::Result<()> {
    let etc = root.join("etc");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&etc)?;
    let path = etc.join("qemu.conf");
    // Where a worker was before, on a disk that may be full by now, nothing has to be written.
    match std::fs::read_to_string(&path) {
        Ok(text) if text == QEMU_CONF => Ok(()),
        _ => std::fs::write(path, QEMU_CONF),
    }
}

/// Hands libvirt an open file for the disks of that `fdgroup`; libvirt keeps a duplicate as long as
/// the connection lasts. <https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainFDAssociate>
#[expect(unsafe_code, reason = "the binding has no safe form")]
fn associate(domain: &Domain, group: &str, descriptor: BorrowedFd<'_>) -> Result<()> {
    let refused = |message: String| HypervisorError::Libvirt {
        operation: "take a disk's descriptor",
        message,
    };
    let name = CString::new(group).map_err(|error| refused(error.to_string()))?;
    let mut descriptors = [descriptor.as_raw_fd()];
    // SAFETY: the domain, the name and the one descriptor are valid for the call, which keeps none.
    let answer = unsafe {
        sys::virDomainFDAssociate(
            domain.as_ptr(),
            name.as_ptr(),
            1,
            descriptors.as_mut_ptr(),
            0,
        )
    };
    if answer < 0 {
        return Err(refused(
            virt::error::Error::last_error().message().to_owned(),
        ));
    }
    Ok(())
}

/// libvirt prints each error on stderr by itself; ours are returned and told once.
#[expect(unsafe_code, reason = "the binding has no safe form")]
fn silence() {
    unsafe extern "C" fn ignore(_: *mut c_void, _: sys::virErrorPtr) {}
    // SAFETY: the callback touches neither of its arguments and lives as long as the program.
    unsafe { sys::virSetErrorFunc(std::ptr::null_mut(), Some(ignore)) };
}
