//! What this machine offers to a guest: emulator, firmware.

use std::path::{Path, PathBuf};

use crate::convert::Firmware;

/// Where distributions install QEMU for x86-64 guests.
const EMULATORS: [&str; 3] = [
    "/usr/bin/qemu-system-x86_64",
    "/usr/libexec/qemu-kvm",
    "/usr/bin/qemu-kvm",
];

/// Sets of OVMF images, as `(code, vars, Secure Boot code, Secure Boot vars)`: Debian's, Fedora's.
const OVMF: [[&str; 4]; 2] = [
    [
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
        "/usr/share/OVMF/OVMF_CODE_4M.ms.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
    ],
    [
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
        "/usr/share/OVMF/OVMF_CODE.secboot.fd",
        "/usr/share/OVMF/OVMF_VARS.secboot.fd",
    ],
];

/// The emulator that is installed, where one is.
pub fn emulator() -> Option<PathBuf> {
    EMULATORS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// The OVMF images that are installed; Debian's paths where none are, so that an error names
/// a file that can be installed.
pub fn firmware() -> Firmware {
    let [code, vars, secure_code, secure_vars] = OVMF
        .iter()
        .find(|set| Path::new(set[0]).exists())
        .unwrap_or(&OVMF[0])
        .map(PathBuf::from);
    Firmware {
        code,
        vars,
        secure_code,
        secure_vars,
    }
}
