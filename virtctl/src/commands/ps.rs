//! `ps`: the machines on this machine.

use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::local::{self, HEADER};
use crate::print::{Printed, columns};

/// Arguments of `ps`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo virtctl ps\n  \
    sudo virtctl ps -n tests -o yaml")]
pub struct Ps {
    /// Of all namespaces, as without --namespace.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// How they are printed.
    #[command(flatten)]
    printed: Printed,
}

impl Ps {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let shown = local::list(global.root(), global.namespace.as_deref()).await?;
        let items: Vec<Value> = shown.iter().map(local::Shown::object).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        self.printed.show(&list, |_| {
            let now = SystemTime::now();
            let rows: Vec<_> = shown.iter().map(|shown| shown.row(now)).collect();
            columns(&HEADER, &rows)
        });
        Ok(())
    }
}
