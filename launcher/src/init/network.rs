//! Stage 1: the pod's network, then the end of all privilege.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use crds::{Interface, VirtualMachineInstance};
use netbind::{DhcpOptions, SetupOptions, TapOptions};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::SigSet;

use super::{InitArgs, PacketSocket, privileges};
use crate::clock::monotonic_us;
use crate::convert::{Accelerator, queue_pairs};
use crate::pod::{self, Pod, QEMU_ID, TUN_DEVICE};

/// The VMI's interfaces on the pod's network.
pub fn pod_interfaces(vmi: &VirtualMachineInstance) -> impl Iterator<Item = &Interface> {
    let spec = &vmi.spec;
    spec.domain.devices.interfaces.iter().filter(|interface| {
        spec.networks
            .iter()
            .any(|network| network.name == interface.name && network.pod.is_some())
    })
}

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
    for (_, socket) in &sockets {
        // Both stages and every worker keep it.
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).context("cannot keep a socket")?;
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
    for (interface, socket) in &sockets {
        let packet_socket = PacketSocket {
            interface: interface.clone(),
            descriptor: socket.as_raw_fd(),
        };
        argv.extend(["--packet-socket".into(), packet_socket.to_string().into()]);
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

/// Binds the pod's interface to the guest; returns the tap's packet socket.
fn bind(args: &InitArgs) -> anyhow::Result<Vec<(String, OwnedFd)>> {
    let pod = Pod::new(&args.runtime_dir);
    let vmi: VirtualMachineInstance = pod::read_json(&pod.vmi())?;
    // Validation lets one interface through: the pod has one network.
    let Some(interface) = pod_interfaces(&vmi).next() else {
        return Ok(vec![]);
    };
    let state_file = args
        .network_state
        .clone()
        .unwrap_or_else(|| pod.dir().join("network-state.json"));
    let guest = netbind::setup(&SetupOptions {
        interface: args.interface.clone(),
        state_file,
        tap: TapOptions {
            name: "tap0".into(),
            owner: QEMU_ID,
            group: QEMU_ID,
            multi_queue: queue_pairs(&vmi.spec.domain, interface) > 1,
        },
        resolv_conf: args.resolv_conf.clone(),
        hostname: vmi
            .spec
            .hostname
            .clone()
            .or_else(|| vmi.metadata.name.clone()),
        dhcp: dhcp_options(interface),
    })?;
    for warning in &guest.warnings {
        eprintln!("virt-launcher: warning: {warning}");
    }
    let path = pod.guest_network(&interface.name);
    make_public(path.parent().unwrap_or(Path::new("/")))?;
    pod::write_json(&path, &guest)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("cannot open up {}", path.display()))?;
    let socket = netbind::serve::open(&guest.tap)
        .with_context(|| format!("cannot open a packet socket on {}", guest.tap))?;
    Ok(vec![(interface.name.clone(), socket)])
}

fn make_public(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot make {}", directory.display()))
}

/// The manifest's words for DHCP in netbind's.
fn dhcp_options(interface: &Interface) -> DhcpOptions {
    // Validation has seen that each value below parses.
    let client = interface.mac_address.as_ref();
    let mut options = DhcpOptions {
        client: client.and_then(|mac| mac.parse().ok()),
        ..DhcpOptions::default()
    };
    let Some(given) = &interface.dhcp_options else {
        return options;
    };
    options.boot_file_name = given.boot_file_name.clone();
    options.tftp_server_name = given.tftp_server_name.clone();
    options.ntp_servers = given
        .ntp_servers
        .iter()
        .filter_map(|server| server.parse::<Ipv4Addr>().ok())
        .collect();
    options.private = given
        .private_options
        .iter()
        .filter_map(|private| Some((u8::try_from(private.option).ok()?, private.value.clone())))
        .collect();
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dhcp_options_are_carried_over() {
        let given: Interface = serde_json::from_value(serde_json::json!({
            "name": "default",
            "macAddress": "02:00:00:00:00:09",
            "dhcpOptions": {
                "bootFileName": "pxelinux.0",
                "tftpServerName": "tftp.example",
                "ntpServers": ["10.0.0.1"],
                "privateOptions": [{"option": 240, "value": "x"}],
            },
        }))
        .unwrap();
        let options = dhcp_options(&given);
        assert_eq!(options.boot_file_name.as_deref(), Some("pxelinux.0"));
        assert_eq!(options.tftp_server_name.as_deref(), Some("tftp.example"));
        assert_eq!(options.ntp_servers, [Ipv4Addr::new(10, 0, 0, 1)]);
        assert_eq!(options.private[&240], "x");
        assert_eq!(options.client, Some(netbind::Mac([2, 0, 0, 0, 0, 9])));
    }
}
