//! Tap devices. The kernel makes them by ioctl only.

#![allow(
    unsafe_code,
    reason = "the kernel makes tap devices by ioctl, for which there is no safe call"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use crate::netlink::Link;
use crate::plan::TapOptions;
use netlink_packet_core::Nla;
use netlink_packet_route::link::{InfoData, InfoTun, LinkInfo};

nix::ioctl_write_int!(tun_set_persist, b'T', 203);
nix::ioctl_write_int!(tun_set_owner, b'T', 204);
nix::ioctl_write_int!(tun_set_group, b'T', 206);

/// Where the kernel makes tap devices.
pub(crate) const DEVICE: &str = "/dev/net/tun";

/// Makes a persistent tap that only its owner may open, and closes it. Made again it only sets
/// the owner again.
pub(crate) fn create(options: &TapOptions) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if options.multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    attach(&file, &options.name, flags)?;
    let fd = file.as_raw_fd();
    // SAFETY: the descriptor is open for the whole block, and the three requests take their
    // argument by value.
    unsafe {
        // The owner first: a tap that outlives a crash is never open to every user.
        tun_set_owner(fd, options.owner.into())?;
        tun_set_group(fd, options.group.into())?;
        tun_set_persist(fd, 1)?;
    }
    Ok(())
}

fn attach(file: &File, name: &str, flags: i32) -> io::Result<()> {
    // SAFETY: ifreq is plain data, for which zero bytes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero: the kernel reads the name up to it.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request points to a whole ifreq that lives through the call.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a link is the tap that [`create`] would make. If it is, it must be left alone: QEMU may
/// be attached to it already, and then the kernel refuses to attach us.
pub(crate) fn is_as_asked(link: &Link, options: &TapOptions) -> bool {
    const OWNER: u16 = 1;
    const GROUP: u16 = 2;
    const PERSIST: u16 = 6;
    const MULTI_QUEUE: u16 = 7;
    let data = link.info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Tun(data)) => Some(data),
        _ => None,
    });
    let Some(data) = data else { return false };
    let value = |kind: u16| {
        data.iter().find_map(|info| {
            let InfoTun::Other(nla) = info else {
                return None;
            };
            let mut bytes = [0; 4];
            let length = nla.value_len();
            if nla.kind() != kind || length > bytes.len() {
                return None;
            }
            nla.emit_value(bytes.get_mut(..length)?);
            Some(u32::from_ne_bytes(bytes))
        })
    };
    // Flags are one byte, which reads as a number only where the low byte comes first.
    let flag = |kind| value(kind).is_some_and(|value| value != 0);
    value(OWNER) == Some(options.owner)
        && value(GROUP) == Some(options.group)
        && flag(PERSIST)
        && flag(MULTI_QUEUE) == options.multi_queue
}
