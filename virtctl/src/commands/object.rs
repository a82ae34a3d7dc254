//! Which object a command is about, as KubeVirt's clients name it: `vm NAME` or `vmi NAME`.

use clap::Args;

use crate::forward::reference::{ParseReferenceError, Reference};

/// `vm NAME`, `vmi NAME`, or one word: a VirtualMachine's name, or a [`Reference`].
#[derive(Clone, Debug, Args)]
pub(super) struct Object {
    /// The machine: NAME, vm NAME, vmi NAME or vm/NAME/NAMESPACE.
    #[arg(required = true, num_args = 1..=2, value_name = "MACHINE")]
    object: Vec<String>,
}

impl Object {
    pub(super) fn reference(&self) -> Result<Reference, ParseReferenceError> {
        let text = self.object.join("/");
        if text.contains('/') {
            text.parse()
        } else {
            format!("vm/{text}").parse()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Kind;

    #[test]
    fn a_machine_is_named_with_or_without_its_kind() {
        for (words, kind, namespace) in [
            (&["demo"][..], Kind::Vm, None),
            (&["vm", "demo"], Kind::Vm, None),
            (&["virtualmachineinstances", "demo"], Kind::Vmi, None),
            (&["vmi/demo"], Kind::Vmi, None),
            (&["vmi/demo/ns"], Kind::Vmi, Some("ns")),
            (&["vm", "demo/ns"], Kind::Vm, Some("ns")),
        ] {
            let object = words.iter().map(|&word| word.to_owned()).collect();
            let reference = Reference {
                kind,
                name: "demo".to_owned(),
                namespace: namespace.map(str::to_owned),
            };
            assert_eq!(Object { object }.reference(), Ok(reference), "{words:?}");
        }
        for words in [&["pod", "demo"][..], &["vmi/"], &["a/b/c/d"], &[""]] {
            let object = words.iter().map(|&word| word.to_owned()).collect();
            assert!(Object { object }.reference().is_err(), "{words:?}");
        }
    }
}
