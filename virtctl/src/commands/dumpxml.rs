//! `dumpxml`: what libvirt has made of a machine on this machine.

use anyhow::bail;
use clap::Args;

use crate::cli::Global;
use crate::out;
use crate::target::{Kind, Target};

/// Arguments of `dumpxml`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo virtctl dumpxml hello --local | xmllint --xpath '//interface' -")]
pub struct DumpXml {
    /// The machine, which runs on this machine.
    name: String,
}

impl DumpXml {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let Target::Local(machine) = global.target(Kind::Vmi, None, &self.name).await? else {
            bail!("a cluster's API has no domain XML; give --local for a machine on this machine");
        };
        out!("{}", machine.domain_xml().await?);
        Ok(())
    }
}
