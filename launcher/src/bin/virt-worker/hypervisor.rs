//! The one module that speaks to libvirt.
//!
//! ```text
//!  tokio task ──job──▶ driver thread ──call──▶ libvirt (embedded QEMU driver)
//!      ▲                                          │ callback
//!      └──────────── Input ◀── event-loop thread ◀┘
//! ```
//!
//! libvirt's calls block and its callbacks come on its event loop's thread, so the connection
//! lives on a thread of its own, and a callback only posts a message.

use std::ffi::{CString, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use launcher::lifecycle::{Input, StopReason};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::{event, sys};

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
    /// The driver's thread is gone.
    #[error("the connection to libvirt is closed")]
    Closed,
}

type Result<T> = std::result::Result<T, HypervisorError>;

fn failed(operation: &'static str) -> impl Fn(virt::error::Error) -> HypervisorError {
    move |error| HypervisorError::Libvirt {
        operation,
        message: error.message().to_owned(),
    }
}

type Job = Box<dyn FnOnce(&mut Driver) + Send>;

/// A handle to the thread that owns the connection.
#[derive(Clone)]
pub(crate) struct Hypervisor {
    jobs: mpsc::Sender<Job>,
}

impl Hypervisor {
    /// Opens the embedded driver at `root`; what happens to the domain arrives at `events`.
    ///
    /// # Errors
    /// Where the directory cannot be made or the driver cannot be opened.
    pub(crate) async fn open(root: PathBuf, events: UnboundedSender<Input>) -> Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (opened, answer) = oneshot::channel();
        std::thread::Builder::new()
            .name("libvirt".into())
            .spawn(move || match Driver::open(&root, events) {
                Ok(mut driver) => {
                    // The other side may have given up waiting; jobs then never come.
                    let _ = opened.send(Ok(()));
                    while let Ok(job) = inbox.recv() {
                        job(&mut driver);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|_| HypervisorError::Closed)?;
        answer.await.map_err(|_| HypervisorError::Closed)??;
        Ok(Self { jobs })
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
}

/// What was found at the driver's root when it was opened.
pub(crate) enum Found {
    /// No domain, or one that never ran.
    Nothing,
    /// A domain that runs; `paused` tells why its vCPUs stand still.
    Running { paused: Option<String> },
    /// A domain that is over.
    Stopped(StopReason),
}

/// The connection and the one domain that it ever holds.
pub(crate) struct Driver {
    connection: Connect,
    domain: Option<Domain>,
}

impl Driver {
    fn open(root: &Path, events: UnboundedSender<Input>) -> Result<Self> {
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
                virt::error::ErrorNumber::NoConnect | virt::error::ErrorNumber::NoSupport => {
                    HypervisorError::NoDriver { message }
                }
                _ if message.contains("module") => HypervisorError::NoDriver { message },
                _ => HypervisorError::Libvirt {
                    operation: "open its QEMU driver",
                    message,
                },
            }
        })?;
        register(&connection, events)?;
        let domain = connection
            .list_all_domains(0)
            .map_err(failed("list its domains"))?
            .into_iter()
            .next();
        Ok(Self { connection, domain })
    }

    /// What became of the domain of an earlier worker.
    ///
    /// # Errors
    /// Where the state cannot be read, or the monitor of a running domain stays away.
    pub(crate) fn find(&self) -> Result<Found> {
        let Some(domain) = &self.domain else {
            return Ok(Found::Nothing);
        };
        if domain.is_active().map_err(failed("look at the domain"))? {
            self.await_monitor(domain)?;
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
                paused: Some(paused(reason)),
            },
            _ => Found::Running { paused: None },
        })
    }

    /// A command sent before a reopened driver has its monitor back races with that.
    fn await_monitor(&self, domain: &Domain) -> Result<()> {
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

    /// Defines the domain; it replaces one that never ran. `descriptors` are what its disks name by
    /// `fdgroup`: the start that follows takes them.
    ///
    /// # Errors
    /// libvirt's own words on what it does not like in the XML.
    pub(crate) fn define(&mut self, xml: &str, descriptors: Vec<(String, OwnedFd)>) -> Result<()> {
        let domain =
            Domain::define_xml(&self.connection, xml).map_err(failed("define the domain"))?;
        for (group, descriptor) in descriptors {
            associate(&domain, &group, descriptor.as_fd())?;
        }
        self.domain = Some(domain);
        Ok(())
    }

    /// Starts the defined domain; returns once its vCPUs run.
    ///
    /// # Errors
    /// libvirt's own words, with QEMU's where it ended.
    pub(crate) fn start(&self) -> Result<()> {
        self.domain()?
            .create()
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

    /// The live XML.
    ///
    /// # Errors
    /// Where there is no domain yet.
    pub(crate) fn xml(&self) -> Result<String> {
        self.domain()?
            .get_xml_desc(0)
            .map_err(failed("write the domain's XML"))
    }

    /// One QMP command.
    ///
    /// # Errors
    /// Where it is no command, or no domain runs.
    pub(crate) fn monitor(&self, command: &str) -> Result<String> {
        self.domain()?
            .qemu_monitor_command(command, 0)
            .map_err(failed("ask QEMU's monitor"))
    }

    /// Makes libvirt probe the emulator, which fills the capability cache.
    ///
    /// # Errors
    /// Where QEMU cannot be probed.
    pub(crate) fn probe(&self, emulator: Option<&str>, kind: &str) -> Result<()> {
        self.connection
            .get_domain_capabilities(emulator, Some("x86_64"), None, Some(kind), 0)
            .map_err(failed("probe QEMU"))
            .map(drop)
    }

    fn domain(&self) -> Result<&Domain> {
        self.domain.as_ref().ok_or(HypervisorError::Libvirt {
            operation: "find the domain",
            message: "it is not defined yet".into(),
        })
    }
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

/// Subscribes to the lifecycle of every domain on the connection.
#[expect(unsafe_code, reason = "the binding wraps no domain events")]
fn register(connection: &Connect, events: UnboundedSender<Input>) -> Result<()> {
    unsafe extern "C" fn free(opaque: *mut c_void) {
        // SAFETY: libvirt calls this once, with the box that was registered.
        drop(unsafe { Box::from_raw(opaque.cast::<UnboundedSender<Input>>()) });
    }
    unsafe extern "C" fn lifecycle(
        _: sys::virConnectPtr,
        _: sys::virDomainPtr,
        event: c_int,
        detail: c_int,
        opaque: *mut c_void,
    ) {
        // SAFETY: `opaque` is the registered box, alive until `free`.
        let events = unsafe { &*opaque.cast::<UnboundedSender<Input>>() };
        if let Some(input) = input(event, detail) {
            // The receiver is gone only when the worker ends.
            let _ = events.send(input);
        }
    }
    type Lifecycle =
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
    type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
    let opaque = Box::into_raw(Box::new(events)).cast::<c_void>();
    // SAFETY: libvirt's VIR_DOMAIN_EVENT_CALLBACK cast: a lifecycle registration calls back with
    // the lifecycle signature. `opaque` is freed by `free`, once, by libvirt.
    let id = unsafe {
        let callback = std::mem::transmute::<Lifecycle, Generic>(lifecycle);
        sys::virConnectDomainEventRegisterAny(
            connection.as_ptr(),
            std::ptr::null_mut(),
            sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
            Some(callback),
            opaque,
            Some(free),
        )
    };
    if id < 0 {
        return Err(failed("subscribe to events")(
            virt::error::Error::last_error(),
        ));
    }
    Ok(())
}

/// What a lifecycle event means for the VM.
/// <https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainEventType>
fn input(event: c_int, detail: c_int) -> Option<Input> {
    let detail = detail.unsigned_abs();
    Some(match event.unsigned_abs() {
        sys::VIR_DOMAIN_EVENT_RESUMED => Input::Resumed,
        sys::VIR_DOMAIN_EVENT_SUSPENDED => Input::Suspended(
            match detail {
                sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => "a disk reported an I/O error",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => "the watchdog fired",
                _ => "paused",
            }
            .into(),
        ),
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => Input::GuestShutdown,
        sys::VIR_DOMAIN_EVENT_STOPPED => Input::Stopped(match detail {
            sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => StopReason::Shutdown,
            sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => StopReason::Destroyed,
            sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => StopReason::Crashed,
            sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => StopReason::Failed,
            _ => StopReason::Other,
        }),
        sys::VIR_DOMAIN_EVENT_CRASHED => Input::Stopped(StopReason::Crashed),
        _ => return None,
    })
}

/// Why a domain found paused is so (`virDomainPausedReason`).
fn paused(reason: c_int) -> String {
    match reason.unsigned_abs() {
        sys::VIR_DOMAIN_PAUSED_IOERROR => "a disk reported an I/O error",
        sys::VIR_DOMAIN_PAUSED_WATCHDOG => "the watchdog fired",
        sys::VIR_DOMAIN_PAUSED_CRASHED => "the guest panicked",
        _ => "paused",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_inputs() {
        let cases = [
            (sys::VIR_DOMAIN_EVENT_STARTED, 0, None),
            (sys::VIR_DOMAIN_EVENT_RESUMED, 0, Some(Input::Resumed)),
            (
                sys::VIR_DOMAIN_EVENT_SHUTDOWN,
                1,
                Some(Input::GuestShutdown),
            ),
            (
                sys::VIR_DOMAIN_EVENT_STOPPED,
                sys::VIR_DOMAIN_EVENT_STOPPED_FAILED,
                Some(Input::Stopped(StopReason::Failed)),
            ),
            (
                sys::VIR_DOMAIN_EVENT_SUSPENDED,
                sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR,
                Some(Input::Suspended("a disk reported an I/O error".into())),
            ),
        ];
        for (event, detail, expected) in cases {
            assert_eq!(
                input(event as c_int, detail as c_int),
                expected,
                "{event}/{detail}"
            );
        }
    }
}
