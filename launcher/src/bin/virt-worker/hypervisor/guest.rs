//! What is asked of a domain that runs, beside its start and its end.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::stream::Stream;
use virt::sys;

use super::counters::{self, Counters};
use super::{HypervisorError, Result, failed};

/// The left shift key in Linux' codes: types nothing, and wakes a screen.
const SHIFT: u32 = 42;

/// How long the key is held, in milliseconds.
const HOLD: u32 = 50;

/// The largest piece of a screenshot that is in memory, in bytes.
const CHUNK: usize = 64 * 1024;

/// The domain, as libvirt's calls see it. They block.
pub(crate) struct Guest {
    pub(super) connection: Connect,
    pub(super) domain: Domain,
    /// The embedded driver's directory: the pod's own file system may be read-only.
    pub(super) root: PathBuf,
}

impl Guest {
    /// The live XML.
    ///
    /// # Errors
    /// Where libvirt cannot write it.
    pub(crate) fn xml(&self) -> Result<String> {
        self.domain
            .get_xml_desc(0)
            .map_err(failed("write the domain's XML"))
    }

    /// One QMP command.
    ///
    /// # Errors
    /// Where it is no command, or no domain runs.
    pub(crate) fn monitor(&self, command: &str) -> Result<String> {
        no_nul(command, "ask QEMU's monitor")?;
        self.domain
            .qemu_monitor_command(command, 0)
            .map_err(failed("ask QEMU's monitor"))
    }

    /// One command of the guest's agent, which has `seconds` for its answer.
    ///
    /// # Errors
    /// [`HypervisorError::Agent`] where none answers in time, else its own words.
    pub(crate) fn ask_agent(&self, command: &str, seconds: i32) -> Result<String> {
        no_nul(command, "ask the guest's agent")?;
        self.domain
            .qemu_agent_command(command, seconds, 0)
            .map_err(failed("ask the guest's agent"))
    }

    /// Stops the vCPUs.
    ///
    /// # Errors
    /// Where the domain does not run.
    pub(crate) fn pause(&self) -> Result<()> {
        self.domain
            .suspend()
            .map_err(failed("pause the domain"))
            .map(drop)
    }

    /// Lets the vCPUs go on.
    ///
    /// # Errors
    /// Where the domain does not run, or the cause of its pause is still there.
    pub(crate) fn unpause(&self) -> Result<()> {
        self.domain
            .resume()
            .map_err(failed("unpause the domain"))
            .map(drop)
    }

    /// Asks for a reboot: the guest's agent, and the power button where there is none. Waits until
    /// the agent has done it, a minute at most.
    ///
    /// # Errors
    /// Where neither takes it.
    pub(crate) fn reboot(&self) -> Result<()> {
        self.domain
            .reboot(sys::VIR_DOMAIN_REBOOT_DEFAULT)
            .map_err(failed("reboot the guest"))
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// Where the domain does not run.
    pub(crate) fn reset(&self) -> Result<()> {
        self.domain
            .reset()
            .map_err(failed("reset the domain"))
            .map(drop)
    }

    /// The counters of these `virDomainStatsTypes`.
    ///
    /// # Errors
    /// Where libvirt cannot read them.
    pub(crate) fn counters(&self, kinds: sys::virDomainStatsTypes) -> Result<Counters> {
        counters::read(&self.domain, kinds)
    }

    /// Presses a key that types nothing, so that a screen which sleeps wakes.
    ///
    /// # Errors
    /// Where QEMU does not take it.
    pub(crate) fn wake_screen(&self) -> Result<()> {
        let mut keys = [SHIFT];
        self.domain
            .send_key(sys::VIR_KEYCODE_SET_LINUX, HOLD, keys.as_mut_ptr(), 1, 0)
            .map_err(failed("press a key"))
    }

    /// The screen as a PNG, in a file that nobody else sees.
    ///
    /// # Errors
    /// Where there is no screen, or this QEMU makes no PNG of it.
    pub(crate) fn screenshot(&self) -> Result<File> {
        const OPERATION: &str = "take a screenshot";
        let keep = |source| HypervisorError::Root {
            path: self.root.clone(),
            source,
        };
        let stream = Stream::new(&self.connection, 0).map_err(failed(OPERATION))?;
        let kind = self
            .domain
            .screenshot(&stream, 0, 0)
            .map_err(failed(OPERATION))?;
        if kind != "image/png" {
            return Err(HypervisorError::Libvirt {
                operation: OPERATION,
                message: format!("QEMU gives {kind}; a PNG takes QEMU 7.1, built with libpng"),
            });
        }
        let mut file = tempfile::tempfile_in(&self.root).map_err(keep)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = stream.recv(&mut buffer).map_err(failed(OPERATION))?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(keep)?;
        }
        stream.finish().map_err(failed(OPERATION))?;
        file.rewind().map_err(keep)?;
        Ok(file)
    }
}

/// The binding panics on a zero byte.
fn no_nul(command: &str, operation: &'static str) -> Result<()> {
    if command.contains('\0') {
        let message = "the command holds a zero byte".to_owned();
        return Err(HypervisorError::Libvirt { operation, message });
    }
    Ok(())
}
