//! `create vm`: a manifest, made of flags; nothing is sent anywhere.

mod cloud_init;
mod vm;
mod volume;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use crds::{Quantity, RunStrategy, manifest};

use crate::cli::Global;
use crate::input;
use crate::print::Written;
use cloud_init::{CloudInit, SshKey};
use volume::Source;

/// Arguments of `create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl create vm --name demo --volume-containerdisk src:registry.example/debian:12")]
pub struct Create {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print a VirtualMachine.
    Vm(Vm),
}

/// Arguments of `create vm`.
#[derive(Debug, Args)]
#[command(
    after_help = "Unless bootorder says otherwise, the machine boots from its first \
    container disk, else from its first claim.\n\n\
    Examples:\n  \
    virtctl create vm --name demo --volume-containerdisk src:registry.example/debian:12\n  \
    virtctl create vm --volume-pvc src:disk,bootorder:1 --memory 2Gi --run-strategy Halted\n  \
    virtctl create vm --volume-containerdisk src:registry.example/debian:12 --user ferris \\\n      \
    --ssh-key \"$(cat ~/.ssh/id_ed25519.pub)\" | kubectl create -f -"
)]
struct Vm {
    /// Its name. Default: a random one.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// When it runs.
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        default_value_t,
        value_name = "STRATEGY"
    )]
    run_strategy: Strategy,
    /// Seconds that it has to shut down before it is powered off.
    #[arg(long, default_value_t = 180, value_name = "SECONDS")]
    termination_grace_period: u32,
    /// The guest's memory.
    #[arg(long, default_value = "512Mi", value_name = "QUANTITY")]
    memory: Quantity,
    /// Its cores. Default: 1.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    cores: Option<u32>,
    /// A disk in a container image, as `src:IMAGE[,name:NAME][,bootorder:NUMBER]`; may be repeated.
    #[arg(long, value_name = "DISK")]
    volume_containerdisk: Vec<Source>,
    /// A claim, as `src:CLAIM[,name:NAME][,bootorder:NUMBER]`; may be repeated.
    #[arg(long, value_name = "DISK")]
    volume_pvc: Vec<Source>,
    /// The user that cloud-init sets up. Default: the image's own.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// A file with that user's password; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A public key that may log in as that user; may be repeated.
    #[arg(long, value_name = "KEY")]
    ssh_key: Vec<SshKey>,
    /// cloud-init's user data, in base64.
    #[arg(
        long,
        value_name = "BASE64",
        conflicts_with_all = ["user", "password_file", "ssh_key"]
    )]
    cloud_init_user_data: Option<String>,
    /// cloud-init's network configuration, in base64.
    #[arg(long, value_name = "BASE64")]
    cloud_init_network_data: Option<String>,
    /// How cloud-init finds its data.
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        default_value_t,
        value_name = "SOURCE"
    )]
    cloud_init: CloudInit,
    #[command(flatten)]
    written: Written,
}

/// The run strategies, under KubeVirt's names.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Strategy {
    #[default]
    #[value(name = "Always")]
    Always,
    #[value(name = "Halted")]
    Halted,
    #[value(name = "Manual")]
    Manual,
    #[value(name = "RerunOnFailure")]
    RerunOnFailure,
    #[value(name = "Once")]
    Once,
}

impl From<Strategy> for RunStrategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Always => Self::Always,
            Strategy::Halted => Self::Halted,
            Strategy::Manual => Self::Manual,
            Strategy::RerunOnFailure => Self::RerunOnFailure,
            Strategy::Once => Self::Once,
        }
    }
}

impl Create {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let What::Vm(flags) = self.what;
        let password = flags
            .password_file
            .as_deref()
            .map(input::read)
            .transpose()?;
        let name = match &flags.name {
            Some(name) => name.clone(),
            None => random_name()?,
        };
        let vm = vm::make(&flags, name, global.namespace.clone(), password.as_deref())?;
        let vm = serde_json::to_value(vm).context("cannot write the manifest")?;
        check(&vm)?;
        flags.written.show(&vm);
        Ok(())
    }
}

/// Refuses a manifest that the cluster would refuse.
fn check(vm: &serde_json::Value) -> anyhow::Result<()> {
    let manifest = manifest::read(vm.clone())?;
    if let Some(error) = manifest.validate().first() {
        bail!("the flags make no valid machine: {error}");
    }
    Ok(())
}

/// `vm-` and five letters that no vowel makes a word of, as Kubernetes' generated names have them.
fn random_name() -> anyhow::Result<String> {
    const LETTERS: &[u8; 16] = b"bcdfghjkmnpqrstv";
    let mut random = [0; 5];
    getrandom::fill(&mut random).context("cannot choose a name; give one with --name")?;
    let letters = random.map(|byte| char::from(LETTERS[usize::from(byte % 16)]));
    Ok(format!("vm-{}", String::from_iter(letters)))
}
