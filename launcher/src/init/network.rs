//! The pod's interfaces, bound to the guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use crds::VirtualMachineInstance;
use netbind::serve::Sockets;

use super::InitArgs;
use super::options::setup_options;
use crate::network::{Attachment, attachments};
use crate::pod::{self, Pod};

/// Binds the pod's interfaces to the guest; returns the packet sockets of each, by the VMI's name
/// for the interface.
pub(super) fn bind(
    args: &InitArgs,
    pod: &Pod,
    vmi: &VirtualMachineInstance,
) -> anyhow::Result<Vec<(String, Sockets)>> {
    let mut attachments: Vec<_> = attachments(vmi, &args.interface).collect();
    // Masquerade last: a kernel that forwards IPv6 heeds no advertisements, and an interface that is
    // still to be discovered may live by them.
    attachments.sort_by_key(|attachment| attachment.interface.masquerade.is_some());
    attachments
        .into_iter()
        .map(|attachment| {
            let sockets = bind_one(args, pod, vmi, &attachment)?;
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
