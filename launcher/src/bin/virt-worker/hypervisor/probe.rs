//! What QEMU can do here, asked once a machine.

use std::ffi::{CStr, CString};

use virt::connect::Connect;
use virt::sys;

use super::{Driver, HypervisorError, Result, failed};

/// libvirt's answers, in its own words.
pub(crate) struct Answers {
    /// What domains may have (`domainCapabilities`).
    /// <https://libvirt.org/formatdomaincaps.html>
    pub(crate) domains: String,
    /// This host's CPU as a guest may have it, with every feature; none where no guest may.
    pub(crate) host_cpu: Option<String>,
}

impl Driver {
    /// Makes libvirt probe the emulator, which fills the capability cache.
    ///
    /// # Errors
    /// Where QEMU cannot be probed.
    pub(crate) fn probe(&self, emulator: Option<&str>, kind: &str) -> Result<Answers> {
        let domains = self
            .connection
            .get_domain_capabilities(emulator, Some("x86_64"), None, Some(kind), 0)
            .map_err(failed("probe QEMU"))?;
        let host_model = domains
            .split_once("<mode name='host-model' supported='yes'>")
            .and_then(|(_, rest)| rest.split_once("</mode>"));
        let host_cpu = host_model
            .map(|(cpu, _)| expand(&self.connection, kind, &format!("<cpu>{cpu}</cpu>")))
            .transpose()?;
        Ok(Answers { domains, host_cpu })
    }
}

/// The CPU with the features that its model stands for spelt out.
/// <https://libvirt.org/html/libvirt-libvirt-host.html#virConnectBaselineHypervisorCPU>
#[expect(unsafe_code, reason = "the binding has no safe form")]
fn expand(connection: &Connect, kind: &str, cpu: &str) -> Result<String> {
    let refused = |message: String| HypervisorError::Libvirt {
        operation: "spell the host's CPU out",
        message,
    };
    let text = |text: &str| CString::new(text).map_err(|error| refused(error.to_string()));
    let (kind, cpu) = (text(kind)?, text(cpu)?);
    let mut cpus = [cpu.as_ptr()];
    // SAFETY: the connection and the strings are valid for the call, which keeps none; no emulator
    // and no machine stand for libvirt's defaults.
    let expanded = unsafe {
        sys::virConnectBaselineHypervisorCPU(
            connection.as_ptr(),
            std::ptr::null(),
            c"x86_64".as_ptr(),
            std::ptr::null(),
            kind.as_ptr(),
            cpus.as_mut_ptr(),
            1,
            sys::VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES,
        )
    };
    if expanded.is_null() {
        return Err(refused(
            virt::error::Error::last_error().message().to_owned(),
        ));
    }
    // SAFETY: libvirt returned a string, which is the caller's.
    let answer = unsafe { CStr::from_ptr(expanded) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: it is to be freed with free(3), and nothing refers to it any more.
    unsafe { nix::libc::free(expanded.cast()) };
    Ok(answer)
}
