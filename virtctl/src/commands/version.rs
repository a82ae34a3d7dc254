//! `version`: which version this is, and which one serves the cluster.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::print::{Printed, plain};

/// Arguments of `version`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl version\n  \
    virtctl version --client -o json")]
pub struct Version {
    /// Only virtctl's own; no cluster is asked.
    #[arg(short, long)]
    client: bool,
    #[command(flatten)]
    printed: Printed,
}

impl Version {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let own = json!({"gitVersion": concat!("v", env!("CARGO_PKG_VERSION"))});
        let mut versions = json!({"clientVersion": own});
        if !self.client && !global.local {
            versions["serverVersion"] = global.cluster().await?.version().await?;
        }
        self.printed.show(&versions, table);
        Ok(())
    }
}

fn table(versions: &Value) -> String {
    let line = |(who, field): (&str, &str)| {
        let version = versions[field]["gitVersion"].as_str()?;
        Some(format!("{who} version: {}\n", plain(version)))
    };
    [("Client", "clientVersion"), ("Server", "serverVersion")]
        .into_iter()
        .filter_map(line)
        .collect()
}
