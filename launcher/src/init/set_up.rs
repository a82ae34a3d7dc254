//! Stage 1: all that takes root, then the end of all privilege, then the images' files.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use crds::VirtualMachineInstance;
use netbind::serve::Sockets;
use nix::fcntl::{FcntlArg, FdFlag, Flock, fcntl};
use nix::sys::signal::SigSet;

use super::container_disks::{self, Handed};
use super::{
    InheritedFile, InitArgs, PacketSockets, capabilities, last_words, lock, network, privileges,
    signals, vmi,
};
use crate::clock::monotonic_us;
use crate::convert::Accelerator;
use crate::pod::{self, CLAIM_DEVICES, Pod, QEMU_ID, TUN_DEVICE, VHOST_NET_DEVICE};
use crate::volumes::{Layout, host_disk};

/// Sets the pod up as root, gives up all privilege and becomes the supervising stage. Ends with
/// status 0 where it is asked to end before that: there is no guest yet that could be shut down.
///
/// # Errors
/// What could not be set up; the guest must not run then. Does not return otherwise.
pub fn set_up(args: &InitArgs) -> anyhow::Result<Infallible> {
    let began = monotonic_us();
    // Before all that can fail: whoever waits for init's end has to see that it was there.
    let locks = locks(args);
    signals::end_when_asked().context("cannot take signals")?;
    // Opened as root, written to by whoever knows the cause of the end.
    let mut log = last_words::open(&args.termination_log).unwrap_or_else(|error| {
        let path = args.termination_log.display();
        eprintln!("virt-launcher: warning: cannot open {path}: {error}");
        None
    });
    let kept = locks.and_then(|locks| prepare(args, locks));
    let become_next = kept.and_then(|kept| supervise(args, began, &kept, log.as_ref()));
    if let (Err(error), Some(log)) = (&become_next, &mut log) {
        last_words::write(log, &format!("{error:#}"));
    }
    become_next
}

/// What set-up leaves to the next stage, as open descriptors.
struct Kept {
    locks: Vec<Flock<File>>,
    sockets: Vec<(String, Sockets)>,
    container_disks: Vec<(String, Handed)>,
    kernel_boot: Option<Handed>,
}

fn prepare(args: &InitArgs, locks: Vec<Flock<File>>) -> anyhow::Result<Kept> {
    let pod = Pod::new(&args.runtime_dir);
    open_devices(args.accelerator)?;
    let sockets = match args.probe {
        true => vec![],
        false => {
            let vmi = read_vmi(args, &pod)?;
            host_disk::ensure_in_pod(&vmi, &Layout::new(&args.runtime_dir))?;
            network::bind(args, &pod, &vmi)?
        }
    };
    privileges::drop_all(QEMU_ID, args.die_with_parent)?;
    if !args.probe {
        let node = args.capabilities.join(args.accelerator.to_string());
        copy_capabilities(&node, &pod.capabilities());
    }
    // As the user that the images' containers run as: root without DAC_OVERRIDE is a stranger there.
    let fetch = |name: &str, roles: &[&str]| {
        let socket = args.container_disks_dir.join(format!("{name}.sock"));
        container_disks::fetch(&socket, roles, args.container_disks_timeout)
    };
    let disks = args.container_disk.iter().map(|volume| {
        let handed = fetch(&format!("volume-{volume}"), &["disk"])
            .with_context(|| format!("volume {volume}"))?;
        Ok((volume.clone(), handed))
    });
    Ok(Kept {
        locks,
        sockets,
        container_disks: disks.collect::<anyhow::Result<_>>()?,
        kernel_boot: args
            .kernel_boot
            .then(|| fetch("kernel-boot", &["kernel", "initrd"]).context("kernelBoot"))
            .transpose()?,
    })
}

/// The locks that the pod's other containers wait for, in the directories that they see. Each is
/// taken even where another cannot be: who waits for it is to end with init all the same.
fn locks(args: &InitArgs) -> anyhow::Result<Vec<Flock<File>>> {
    let images = args.kernel_boot || !args.container_disk.is_empty();
    let shared = [
        (!args.probe).then_some(&args.runtime_dir),
        images.then_some(&args.container_disks_dir),
    ];
    let taken: Vec<_> = shared
        .into_iter()
        .flatten()
        .map(|directory| lock::take(directory))
        .collect();
    taken.into_iter().collect()
}

/// Lets the pod's user open the device nodes that QEMU needs; they are the pod's own, and root's, so
/// that this takes no capability.
fn open_devices(accelerator: Accelerator) -> anyhow::Result<()> {
    let kvm = (accelerator == Accelerator::Kvm).then_some("/dev/kvm");
    let needed = [TUN_DEVICE].into_iter().chain(kvm).map(PathBuf::from);
    let claims = fs::read_dir(CLAIM_DEVICES).into_iter().flatten().flatten();
    let vhost = Some(PathBuf::from(VHOST_NET_DEVICE)).filter(|path| path.exists());
    let devices = needed.chain(vhost).chain(claims.map(|entry| entry.path()));
    for device in devices {
        let shown = device.display();
        let mode = fs::metadata(&device)
            .with_context(|| format!("there is no {shown} in this pod"))?
            .permissions()
            .mode();
        if mode & 0o666 != 0o666 {
            fs::set_permissions(&device, fs::Permissions::from_mode(0o666))
                .with_context(|| format!("cannot open up {shown}"))?;
        }
    }
    Ok(())
}

/// The VMI that the pod carries, left where workers look for it; or the one that is there already.
fn read_vmi(args: &InitArgs, pod: &Pod) -> anyhow::Result<VirtualMachineInstance> {
    let Some(path) = &args.vmi else {
        return Ok(pod::read_json(&pod.vmi())?);
    };
    let vmi = vmi::read(path)?;
    vmi::hand_on(&vmi, pod)?;
    Ok(vmi)
}

/// A VM starts without the node's answers too, only later.
fn copy_capabilities(node: &Path, cache: &Path) {
    // `run` has brought its own.
    if !node.exists() || cache.exists() {
        return;
    }
    if let Err(error) = capabilities::copy(node, cache) {
        let shown = node.display();
        eprintln!(
            "virt-launcher: warning: cannot copy libvirt's capabilities from {shown}: {error}"
        );
    }
}

/// Becomes the supervising stage, with what is kept.
fn supervise(
    args: &InitArgs,
    began: u64,
    kept: &Kept,
    log: Option<&File>,
) -> anyhow::Result<Infallible> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut argv: Vec<OsString> = vec![
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
    let mut pass = |option: &str, value: String| argv.extend([option.into(), value.into()]);
    for (interface, sockets) in &kept.sockets {
        keep(&sockets.tap)?;
        sockets.uplink.as_ref().map_or(Ok(()), keep)?;
        let packet_sockets = PacketSockets {
            interface: interface.clone(),
            tap: sockets.tap.as_raw_fd(),
            uplink: sockets.uplink.as_ref().map(AsRawFd::as_raw_fd),
        };
        pass("--packet-sockets", packet_sockets.to_string());
    }
    for (volume, handed) in &kept.container_disks {
        for (_, file) in &handed.files {
            keep(file)?;
            let file = InheritedFile::new(volume, file.as_raw_fd());
            pass("--container-disk-file", file.to_string());
        }
    }
    for (role, file) in kept.kernel_boot.iter().flat_map(|handed| &handed.files) {
        keep(file)?;
        let file = InheritedFile::new(role, file.as_raw_fd());
        pass("--kernel-boot-file", file.to_string());
    }
    let disks = kept.container_disks.iter().map(|(_, handed)| handed);
    let connections = disks.chain(&kept.kernel_boot);
    let held = connections.map(|handed| handed.connection.as_fd());
    for held in held.chain(kept.locks.iter().map(|lock| lock.as_fd())) {
        keep(held)?;
        pass("--held", held.as_raw_fd().to_string());
    }
    if let Some(log) = log {
        keep(log)?;
        pass("--termination-descriptor", log.as_raw_fd().to_string());
    }
    let argv = argv
        .into_iter()
        .map(|argument| CString::new(argument.into_vec()));
    let argv = argv
        .collect::<Result<Vec<_>, _>>()
        .context("an argument holds a NUL byte")?;
    let path = CString::new(program.into_os_string().into_vec())?;
    // From here on a request to end waits for the next stage.
    SigSet::all()
        .thread_block()
        .context("cannot block signals")?;
    nix::unistd::execv(&path, &argv).context("cannot become the supervising stage")
}

/// Lets a descriptor live on in the program that this process becomes.
fn keep(descriptor: impl AsFd) -> anyhow::Result<()> {
    let kept = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()));
    kept.map(drop).context("cannot keep a descriptor")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::LOCK;
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        init: InitArgs,
    }

    /// Which locks init takes of its two directories, with these arguments.
    fn locked(arguments: &[&str], present: [bool; 2]) -> (bool, [bool; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let directories = ["runtime", "disks"].map(|name| dir.path().join(name));
        for (directory, present) in directories.iter().zip(present) {
            if present {
                fs::create_dir(directory).unwrap();
            }
        }
        let [runtime, disks] = directories.each_ref().map(|path| path.to_str().unwrap());
        let own = [
            "init",
            "--runtime-dir",
            runtime,
            "--container-disks-dir",
            disks,
        ];
        let args = Cli::parse_from([&own, arguments].concat()).init;
        let taken = locks(&args).is_ok();
        (
            taken,
            directories.map(|directory| directory.join(LOCK).exists()),
        )
    }

    #[test]
    fn whoever_waits_for_init_sees_that_it_was_there() {
        let disk: &[&str] = &["--container-disk", "root"];
        let cases = [
            (&[] as &[&str], [true, true], (true, [true, false])),
            (&["--probe"], [true, true], (true, [false, false])),
            (disk, [true, true], (true, [true, true])),
            (&["--kernel-boot"], [true, true], (true, [true, true])),
            (disk, [false, true], (false, [false, true])),
            (disk, [true, false], (false, [true, false])),
        ];
        for (arguments, present, expected) in cases {
            let found = locked(arguments, present);
            assert_eq!(found, expected, "{arguments:?} {present:?}");
        }
    }
}
