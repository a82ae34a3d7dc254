//! `spec.domain.machine` and `spec.domain.firmware`: `<os>`.

use crds::{DomainSpec, EFI};
use domain_xml::{
    Bios, BootDevice, BootDeviceKind, Loader, LoaderType, Nvram, Os, OsType, SmbiosMode,
    SmbiosSource, YesNo,
};

use super::{ConvertError, Host, Problem, utf8};

/// The field of the machine type.
const MACHINE: &str = "spec.domain.machine.type";

/// Firmware, machine and boot.
///
/// Where no device names its place in the boot order, the first disk is booted, then the first
/// CD-ROM: libvirt would stop at the disk, and a guest of nothing but a CD-ROM would not boot.
pub(super) fn os(spec: &DomainSpec, host: &Host) -> Result<Os, ConvertError> {
    let machine = machine(spec)?;
    let (loader, nvram) = match efi(spec) {
        Some(efi) => efi_images(efi, machine, host)?,
        None => (None, None),
    };
    let boot_devices = if has_boot_order(spec) {
        Vec::new()
    } else {
        [BootDeviceKind::Hd, BootDeviceKind::Cdrom]
            .map(|dev| BootDevice { dev })
            .into()
    };
    let (kernel, initrd, cmdline) = kernel(spec, host)?;
    Ok(Os {
        kind: OsType {
            arch: Some("x86_64".to_owned()),
            machine: Some(machine.to_owned()),
            value: "hvm".to_owned(),
        },
        loader,
        nvram,
        kernel,
        initrd,
        cmdline,
        boot_devices,
        smbios: Some(SmbiosMode {
            mode: SmbiosSource::Sysinfo,
        }),
        bios: bios(spec),
        ..Os::default()
    })
}

/// OVMF's settings, where the firmware is OVMF.
pub(super) fn efi(spec: &DomainSpec) -> Option<&EFI> {
    spec.firmware.as_ref()?.bootloader.as_ref()?.efi.as_ref()
}

/// Whether the firmware enforces Secure Boot.
pub(super) fn is_secure(spec: &DomainSpec) -> bool {
    efi(spec).is_some_and(|efi| efi.secure_boot.unwrap_or(true))
}

/// The machine type: one of x86-64's two families, or a version of one.
fn machine(spec: &DomainSpec) -> Result<&str, ConvertError> {
    let machine = spec
        .machine
        .as_ref()
        .and_then(|machine| machine.type_.as_deref());
    let machine = machine.unwrap_or("q35");
    let version = ["pc-q35-", "pc-i440fx-"]
        .into_iter()
        .find_map(|family| machine.strip_prefix(family));
    if matches!(machine, "q35" | "pc") || version.is_some_and(|version| !version.is_empty()) {
        Ok(machine)
    } else {
        Err(Problem::Machine(machine.to_owned()).at(MACHINE))
    }
}

/// OVMF's code, and a variable store of the guest's own: libvirt copies the template to it at
/// the first start, and it ends with the guest.
///
/// Under emulation Secure Boot works but takes a minute more: each access to a variable enters
/// system management mode.
fn efi_images(
    efi: &EFI,
    machine: &str,
    host: &Host,
) -> Result<(Option<Loader>, Option<Nvram>), ConvertError> {
    let path = || "spec.domain.firmware.bootloader.efi".to_owned();
    let secure = efi.secure_boot.unwrap_or(true);
    if secure && machine.starts_with("pc") && !machine.starts_with("pc-q35") {
        return Err(Problem::SecureBootMachine.at(path()));
    }
    let (code, vars) = if secure {
        (&host.firmware.secure_code, &host.firmware.secure_vars)
    } else {
        (&host.firmware.code, &host.firmware.vars)
    };
    let loader = Loader {
        readonly: Some(YesNo::Yes),
        secure: Some(secure.into()),
        kind: Some(LoaderType::Pflash),
        stateless: None,
        path: Some(utf8(code, path)?),
    };
    let nvram = Nvram {
        template: Some(utf8(vars, path)?),
        kind: None,
        path: Some(utf8(&host.runtime_dir.join("nvram.fd"), path)?),
    };
    Ok((Some(loader), Some(nvram)))
}

fn bios(spec: &DomainSpec) -> Option<Bios> {
    let bios = spec.firmware.as_ref()?.bootloader.as_ref()?.bios.as_ref()?;
    bios.use_serial.map(|use_serial| Bios {
        use_serial: Some(use_serial.into()),
        reboot_timeout: None,
    })
}

/// Kernel, initrd and command line, where the guest boots a kernel of its own.
type Kernel = (Option<String>, Option<String>, Option<String>);

fn kernel(spec: &DomainSpec, host: &Host) -> Result<Kernel, ConvertError> {
    let Some(boot) = spec.firmware.as_ref().and_then(|f| f.kernel_boot.as_ref()) else {
        return Ok((None, None, None));
    };
    let path = || "spec.domain.firmware.kernelBoot.container".to_owned();
    let files = host.kernel_boot.as_ref();
    let files = files.ok_or_else(|| Problem::NoKernel.at(path()))?;
    let carried = |file: &Option<std::path::PathBuf>| {
        file.as_deref().map(|file| utf8(file, path)).transpose()
    };
    let cmdline = boot.kernel_args.clone().filter(|args| !args.is_empty());
    Ok((carried(&files.kernel)?, carried(&files.initrd)?, cmdline))
}

fn has_boot_order(spec: &DomainSpec) -> bool {
    let devices = &spec.devices;
    devices.disks.iter().any(|disk| disk.boot_order.is_some())
        || devices
            .interfaces
            .iter()
            .any(|interface| interface.boot_order.is_some())
}
