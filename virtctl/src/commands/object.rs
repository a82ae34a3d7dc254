//! Which object a command is about, as KubeVirt's clients name it: `[vm|vmi] NAME`.

use anyhow::bail;
use clap::Args;

use crate::target::Kind;

/// `[vm|vmi] NAME`, `NAME` or `vm/NAME`.
#[derive(Clone, Debug, Args)]
pub(super) struct Object {
    /// The machine: `NAME`, `vm NAME` or `vmi NAME`.
    #[arg(required = true, num_args = 1..=2, value_names = ["vm|vmi", "NAME"])]
    object: Vec<String>,
}

impl Object {
    /// The kind, VirtualMachine where none is named, and the name.
    pub(super) fn named(&self) -> anyhow::Result<(Kind, String)> {
        let (kind, name) = match self.object.as_slice() {
            [kind, name] => (Some(kind.as_str()), name.as_str()),
            [one] => match one.split_once('/') {
                Some((kind, name)) => (Some(kind), name),
                None => (None, one.as_str()),
            },
            _ => (None, ""),
        };
        if name.is_empty() || name.contains('/') {
            bail!(
                "{:?} names no machine; write vm NAME or vmi NAME",
                self.object.join(" ")
            );
        }
        let kind = match kind {
            None => Kind::Vm,
            Some(word) => match Kind::parse(&word.to_lowercase()) {
                Some(kind) => kind,
                None => bail!("{word:?} is no kind of machine; write vm or vmi"),
            },
        };
        Ok((kind, name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_with_or_without_its_kind() {
        let vm = |name: &str| Ok((Kind::Vm, name.to_owned()));
        let vmi = |name: &str| Ok((Kind::Vmi, name.to_owned()));
        for (words, named) in [
            (&["demo"][..], vm("demo")),
            (&["vm", "demo"], vm("demo")),
            (&["VirtualMachineInstances", "demo"], vmi("demo")),
            (&["vmi/demo"], vmi("demo")),
            (&["vm", "vm"], vm("vm")),
            (
                &["pod", "demo"],
                Err("\"pod\" is no kind of machine; write vm or vmi"),
            ),
            (
                &["vmi/"],
                Err("\"vmi/\" names no machine; write vm NAME or vmi NAME"),
            ),
            (
                &["a/b/c"],
                Err("\"a/b/c\" names no machine; write vm NAME or vmi NAME"),
            ),
        ] {
            let object = words.iter().map(|&word| word.to_owned()).collect();
            let found = Object { object }.named().map_err(|error| error.to_string());
            assert_eq!(found, named.map_err(str::to_owned), "{words:?}");
        }
    }
}
