//! `expand`: a VirtualMachine with all that it refers to written out.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use crds::manifest::{self, Manifest};
use serde_json::Value;

use crate::cli::{Global, name};
use crate::cluster::Machine;
use crate::input;
use crate::print::Written;
use crate::target::{Kind, Name};

/// Arguments of `expand`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl expand --vm demo\n  \
    virtctl expand --file vm.yaml -o json")]
pub struct Expand {
    /// A VirtualMachine in the cluster.
    #[arg(long, value_name = "NAME", value_parser = name, required_unless_present = "file")]
    vm: Option<String>,
    /// A VirtualMachine in a file; `-` for standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "vm")]
    file: Option<PathBuf>,
    #[command(flatten)]
    written: Written,
}

impl Expand {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        // What is wrong with the file is told before a cluster is looked for.
        let manifest = self.file.as_deref().map(read).transpose()?;
        let cluster = global.cluster().await?;
        let namespace = global.namespace(None, cluster.namespace());
        let expanded = match manifest {
            Some(manifest) => cluster.expand(&namespace, &manifest).await?,
            None => {
                let kind = Kind::Vm;
                let name = self.vm.unwrap_or_default();
                let name = Name {
                    kind,
                    namespace,
                    name,
                };
                Machine::new(cluster, name).get(kind, "expand-spec").await?
            }
        };
        self.written.show(&expanded);
        Ok(())
    }
}

/// The VirtualMachine in `file`.
fn read(file: &Path) -> anyhow::Result<Value> {
    let text = input::read(file)?;
    let shown = file.display();
    match manifest::parse(&text) {
        Ok(Manifest::Vm(vm)) => Ok(serde_json::to_value(vm)?),
        Ok(Manifest::Vmi(_)) => bail!(
            "{shown} holds a VirtualMachineInstance, which refers to nothing; give a VirtualMachine"
        ),
        Err(error) => bail!("{shown}: {error}"),
    }
}
