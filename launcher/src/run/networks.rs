//! Which networks the pod of a VMI is attached to, by the manifest and the command line.

use std::path::Path;

use anyhow::anyhow;
use crds::VirtualMachineInstance;

use super::cni::Network;
use super::ipv6::{self, Without};
use super::sandbox::Attached;
use super::timeline::Timeline;
use super::{Binding, RunArgs};
use crate::network::{Attachment, PRIMARY, attachments};

/// The networks, in the order in which the pod is attached to them: its own one first, as a
/// cluster has it.
///
/// # Errors
/// Where a configuration is missing, or is none.
pub(super) fn resolve(
    root: &Path,
    args: &RunArgs,
    vmi: &VirtualMachineInstance,
    timeline: &Timeline,
) -> anyhow::Result<Vec<Attached>> {
    let mut attached = attachments(vmi, PRIMARY)
        .map(|attachment| {
            Ok(Attached {
                name: attachment.interface.name.clone(),
                network: network(root, args, vmi, &attachment, timeline)?,
                device: attachment.device,
                masquerade: attachment.interface.masquerade.is_some(),
                result: serde_json::Value::Null,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    attached.sort_by_key(|attached| attached.device != PRIMARY);
    Ok(attached)
}

fn network(
    root: &Path,
    args: &RunArgs,
    vmi: &VirtualMachineInstance,
    attachment: &Attachment<'_>,
    timeline: &Timeline,
) -> anyhow::Result<Network> {
    let directories = args.cni_bin.clone();
    if let Some(multus) = &attachment.network.multus {
        let namespace = vmi.metadata.namespace.as_deref().unwrap_or("default");
        let file = bound(&args.networks, namespace, &multus.network_name)?;
        return Ok(Network::read(file, directories)?);
    }
    if let Some(file) = &args.cni_conf {
        return Ok(Network::read(file, directories)?);
    }
    let ipv6 = ipv6::usable();
    if let Err(why @ (Without::Advertised(_) | Without::NoNat)) = &ipv6 {
        timeline.note(&format!("the VM gets no IPv6: {why}"));
    }
    let data = root.join("cni");
    Ok(Network::default_bridge(&data, directories, ipv6.is_ok()))
}

/// The file that stands for a NetworkAttachmentDefinition. Without a namespace it is one of the
/// instance's, in the manifest as on the command line.
fn bound<'a>(bindings: &'a [Binding], namespace: &str, name: &str) -> anyhow::Result<&'a Path> {
    let full = |name: &str| match name.contains('/') {
        true => name.to_owned(),
        false => format!("{namespace}/{name}"),
    };
    let wanted = full(name);
    let found = bindings
        .iter()
        .find(|binding| full(&binding.name) == wanted);
    found.map(|binding| binding.path.as_path()).ok_or_else(|| {
        anyhow!(
            "the manifest refers to the network {name:?}; give its CNI configuration with \
             --network {name}=FILE"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_found_with_and_without_its_namespace() {
        let bindings = ["blue=/a", "space/red=/b"].map(|text| text.parse().unwrap());
        let cases = [
            ("blue", Some("/a")),
            ("default/blue", Some("/a")),
            ("space/red", Some("/b")),
            ("red", None),
            ("space/blue", None),
        ];
        for (name, expected) in cases {
            let found = bound(&bindings, "default", name);
            assert_eq!(found.ok(), expected.map(Path::new), "{name}");
        }
        let error = bound(&bindings, "default", "red").unwrap_err().to_string();
        assert!(error.ends_with("--network red=FILE"), "{error}");
    }
}
