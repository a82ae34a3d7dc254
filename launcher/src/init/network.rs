//! Stage 1: the pod's network, then the end of all privilege.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use crds::VirtualMachineInstance;
use netbind::serve::Sockets;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::SigSet;

use super::options::setup_options;
use super::{InitArgs, PacketSockets, privileges};
use crate::clock::monotonic_us;
use crate::convert::Accelerator;
use crate::network::{Attachment, attachments};
use crate::pod::{self, Pod, QEMU_ID, TUN_DEVICE};

/// Sets the pod up as root, gives up all privilege and becomes the supervising stage.
///
/// # Errors
/// What could not be set up; the guest must not run then. Does not return otherwise.
pub fn set_up(args: &InitArgs) -> anyhow::Result<Infallible> {
    let began = monotonic_us();
    // PID 1 has no default actions: a request to end that comes now waits for the next stage.
    SigSet::all()
        .thread_block()
        .context("cannot block signals")?;
    let program = std::env::current_exe().context("cannot find this program")?;
    open_devices(args.accelerator)?;
    let sockets = if args.probe { vec![] } else { bind(args)? };
    for (_, sockets) in &sockets {
        // Both stages and every worker keep them.
        keep(&sockets.tap)?;
        sockets.uplink.as_ref().map_or(Ok(()), keep)?;
    }
    privileges::drop_all(QEMU_ID, args.die_with_parent)?;
    let mut argv = vec![
        "virt-launcher".into(),
        "init".into(),
        "--supervise".into(),
        "--runtime-dir".into(),
        args.runtime_dir.clone().into_os_string(),
        "--accelerator".into(),
        args.accelerator.to_string().into(),
        "--began".into(),
        began.to_string().into(),
    ];
    if args.probe {
        argv.push("--probe".into());
    }
    for (interface, sockets) in &sockets {
        let packet_sockets = PacketSockets {
            interface: interface.clone(),
            tap: sockets.tap.as_raw_fd(),
            uplink: sockets.uplink.as_ref().map(AsRawFd::as_raw_fd),
        };
        argv.extend(["--packet-sockets".into(), packet_sockets.to_string().into()]);
    }
    let argv = argv
        .into_iter()
        .map(|argument| CString::new(argument.into_vec()));
    let argv = argv
        .collect::<Result<Vec<_>, _>>()
        .context("an argument holds a NUL byte")?;
    let path = CString::new(program.into_os_string().into_vec())?;
    nix::unistd::execv(&path, &argv).context("cannot become the supervising stage")
}

/// Lets the pod's user open the device nodes that QEMU needs; they are the pod's own.
fn open_devices(accelerator: Accelerator) -> anyhow::Result<()> {
    let kvm = (accelerator == Accelerator::Kvm).then_some("/dev/kvm");
    for device in [TUN_DEVICE].into_iter().chain(kvm) {
        let mode = fs::metadata(device)
            .with_context(|| format!("there is no {device} in this pod"))?
            .permissions()
            .mode();
        if mode & 0o666 != 0o666 {
            fs::set_permissions(device, fs::Permissions::from_mode(0o666))
                .with_context(|| format!("cannot open up {device}"))?;
        }
    }
    Ok(())
}

/// Lets a descriptor live on in the programs that this process becomes and starts.
fn keep(descriptor: &OwnedFd) -> anyhow::Result<()> {
    let kept = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()));
    kept.map(drop).context("cannot keep a socket")
}

/// Binds the pod's interfaces to the guest; returns the packet sockets of each, by the VMI's name
/// for the interface.
fn bind(args: &InitArgs) -> anyhow::Result<Vec<(String, Sockets)>> {
    let pod = Pod::new(&args.runtime_dir);
    let vmi: VirtualMachineInstance = pod::read_json(&pod.vmi())?;
    let mut attachments: Vec<_> = attachments(&vmi, &args.interface).collect();
    // Masquerade last: a kernel that forwards IPv6 heeds no advertisements, and an interface that is
    // still to be discovered may live by them.
    attachments.sort_by_key(|attachment| attachment.interface.masquerade.is_some());
    attachments
        .into_iter()
        .map(|attachment| {
            let sockets = bind_one(args, &pod, &vmi, &attachment)?;
            Ok((attachment.interface.name.clone(), sockets))
        })
        .collect()
}

fn bind_one(
    args: &InitArgs,
    pod: &Pod,
    vmi: &VirtualMachineInstance,
    attachment: &Attachment<'_>,
) -> anyhow::Result<Sockets> {
    let name = &attachment.interface.name;
    let states = args.network_state.clone();
    let states = states.unwrap_or_else(|| pod.dir().join("network-state"));
    make(&states, 0o700)?;
    let state_file = states.join(format!("{}.json", attachment.device));
    let guest = netbind::setup(&setup_options(args, vmi, attachment, state_file))
        .with_context(|| format!("cannot bind the interface {name:?}"))?;
    for warning in &guest.warnings {
        eprintln!("virt-launcher: warning: {name}: {warning}");
    }
    let path = pod.guest_network(name);
    make(path.parent().unwrap_or(Path::new("/")), 0o755)?;
    pod::write_json(&path, &guest)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("cannot open up {}", path.display()))?;
    netbind::serve::open(&guest)
        .with_context(|| format!("cannot open packet sockets for the interface {name:?}"))
}

/// Makes a directory with this mode, whatever the umask is.
fn make(directory: &Path, mode: u32) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot make {}", directory.display()))
}
