//! `expand`: a VirtualMachine with all that it refers to written out.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::cli::Global;
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
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
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
        let manifest = self.file.as_deref().map(manifest).transpose()?;
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

/// The manifest in `file`, as it is written.
fn manifest(file: &std::path::Path) -> anyhow::Result<Value> {
    let text = input::read(file)?;
    let read = serde_saphyr::from_str(&text);
    read.with_context(|| format!("{} is no YAML; write one VirtualMachine", file.display()))
}
