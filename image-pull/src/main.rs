//! virt-image-pull: an image from its registry into a local OCI layout.
//!
//! The one program of this project that speaks TLS to a registry, so that the launcher need not.
//! It can be killed at any moment: what is in the layout under its final name is whole and
//! verified, and the next pull goes on where this one stopped.

mod auth;
mod error;
mod layout;
mod progress;
mod pull;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Pull an image from its registry into a local OCI layout.
#[derive(Parser)]
#[command(name = "virt-image-pull", version)]
struct Arguments {
    /// Name of the image, such as quay.io/containerdisks/fedora:latest.
    image: String,
    /// Directory of the OCI image layout; made where there is none.
    #[arg(long, value_name = "DIR")]
    layout: PathBuf,
    /// A registry (host or host:port) to ask without TLS; may be given again. Those on this
    /// machine always are.
    #[arg(long = "insecure-registry", value_name = "HOST")]
    insecure_registries: Vec<String>,
    /// Print {"digest": …} or {"error": …} on standard output, and no error elsewhere.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    match run(arguments) {
        Ok(digest) if json => println!("{}", serde_json::json!({ "digest": digest })),
        Ok(digest) => println!("{digest}"),
        Err(error) => {
            let error = format!("{error:#}");
            if json {
                println!("{}", serde_json::json!({ "error": error }));
            } else {
                eprintln!("error: {error}");
            }
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(arguments: Arguments) -> anyhow::Result<String> {
    // Only a second call could fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let request = pull::Request {
        image: arguments.image,
        layout: arguments.layout,
        insecure_registries: arguments.insecure_registries,
    };
    Ok(runtime.block_on(pull::pull(request))?)
}
