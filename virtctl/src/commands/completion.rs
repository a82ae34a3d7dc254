//! `completion`: the script by which a shell completes virtctl's command lines.

use clap::Args;
use clap_complete::Shell;

use crate::cli;

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    source <(virtctl completion bash)\n  \
    virtctl completion zsh > \"${fpath[1]}/_virtctl\"\n  \
    virtctl completion fish | source")]
pub struct Completion {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self) {
        let name = "virtctl";
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut cli::command(name), name, &mut script);
        // A reader that has gone away is no error.
        let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
    }
}
