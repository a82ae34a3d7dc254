//! The command line: what is common to all commands.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser};

use crate::cluster::{self, Cluster, ConnectError};
use crate::commands::Command;
use crate::forward::reference::is_name;
use crate::local;
use crate::target::{CallError, Kind, Name, Target};

/// All arguments.
#[derive(Debug, Parser)]
#[command(
    name = "virtctl",
    version,
    about = "Starts, stops and reaches virtual machines, in a cluster and on this machine",
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The machine's namespace. Default: the context's.
    #[arg(short, long, global = true, value_name = "NAMESPACE", value_parser = name)]
    pub namespace: Option<String>,
    /// The kubeconfig file. Default: $KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: its current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Act as this user, with your right to do so.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Act as a member of this group; may be repeated.
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        requires = "impersonate"
    )]
    pub impersonate_groups: Vec<String>,
    /// The machine runs on this machine, with no cluster (see `run` and `ps`).
    #[arg(long, global = true)]
    pub local: bool,
    /// Where local machines and images are kept.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "FERROVIRT_ROOT",
        hide_env = true,
        default_value = "/var/lib/ferrovirt"
    )]
    pub root: PathBuf,
}

/// The text is no object's name.
#[derive(Debug, thiserror::Error)]
#[error(
    "a name has lower-case letters, digits, dashes and dots, and begins and ends with a letter or digit"
)]
pub struct NameError;

/// An argument that is an object's name. No other text goes into a path of the API.
///
/// # Errors
/// [`NameError`].
pub fn name(text: &str) -> Result<String, NameError> {
    is_name(text).then(|| text.to_owned()).ok_or(NameError)
}

/// No machine could be had of a name.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The cluster cannot be spoken to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no such machine here.
    #[error(transparent)]
    Local(#[from] CallError),
    /// Nor is there a cluster.
    #[error("no cluster is known (neither $KUBECONFIG nor ~/.kube/config leads to one), and {0}")]
    Nowhere(CallError),
}

impl Global {
    /// The machine that the user calls `name`, in `namespace` where the argument itself has one.
    ///
    /// With `--local`, or with no cluster to be found and such a machine here, it is a machine on
    /// this machine. Where it might be either, it is the cluster's, and the user is told.
    ///
    /// # Errors
    /// [`TargetError`].
    pub async fn target(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Target, TargetError> {
        let named = |default: &str| Name {
            kind,
            namespace: self.namespace(namespace, default),
            name: name.to_owned(),
        };
        let here = |name| local::find(self.root(), name);
        if self.local {
            return Ok(Target::Local(here(named("default"))?));
        }
        let of_cluster = self.kubeconfig.is_some() || self.context.is_some();
        match self.cluster().await {
            Ok(cluster) => {
                let name = named(cluster.namespace());
                if !of_cluster && here(name.clone()).is_ok() {
                    eprintln!("{name} is the cluster's; for the one on this machine, give --local");
                }
                Ok(Target::Cluster(cluster::Machine::new(cluster, name)))
            }
            Err(ConnectError::Absent) if !of_cluster => {
                let found = here(named("default")).map_err(TargetError::Nowhere)?;
                Ok(Target::Local(found))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The cluster.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn cluster(&self) -> Result<Cluster, ConnectError> {
        let options = cluster::Options {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            impersonate: self.impersonate.clone(),
            impersonate_groups: self.impersonate_groups.clone(),
        };
        Cluster::find(&options).await
    }

    /// Where local machines are kept.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The namespace: the argument's own, `--namespace`'s, else `default`.
    pub fn namespace(&self, own: Option<&str>, default: &str) -> String {
        let chosen = own.or(self.namespace.as_deref());
        chosen.unwrap_or(default).to_owned()
    }
}

/// The arguments, and the name under which the program is called: `virtctl` or `kubectl virt`.
/// Wrong ones, and `--help`, end the process.
pub fn parse() -> (Cli, &'static str) {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called_as(called.as_deref());
    let matches = command(name).get_matches();
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => (cli, name),
        Err(error) => error.format(&mut command(name)).exit(),
    }
}

/// The command line as the user knows it by `name`.
pub fn command(name: &'static str) -> clap::Command {
    Cli::command().name(name).bin_name(name)
}

/// The name to show of the file `called`.
fn called_as(called: Option<&Path>) -> &'static str {
    let file = called.and_then(Path::file_stem);
    if file.is_some_and(|stem| stem.as_encoded_bytes().starts_with(b"kubectl-virt")) {
        "kubectl virt"
    } else {
        "virtctl"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn kubectls_plugin_is_named_as_kubectl_calls_it() {
        for (called, name) in [
            (None, "virtctl"),
            (Some("/usr/bin/virtctl"), "virtctl"),
            (Some("kubectl-virt"), "kubectl virt"),
            (Some("/opt/kubectl-virt.exe"), "kubectl virt"),
        ] {
            assert_eq!(called_as(called.map(Path::new)), name, "{called:?}");
        }
    }
}
