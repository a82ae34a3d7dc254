//! What is offered, and what a container that gets it finds in it: pure.

use std::path::{Path, PathBuf};

use super::generated::{
    ContainerAllocateResponse, Device, DeviceSpec, ListAndWatchResponse, Mount,
};
use crate::node::Facts;

/// How many containers of a node may hold a resource at the same time.
const COUNT: u32 = 1000;

/// Where a launcher finds libvirt's cached answers about QEMU, one directory an accelerator.
const CAPABILITIES: &str = "/var/lib/ferrovirt/capabilities";

/// Where a container with a disk image finds the program that hands the image out.
const SIDECAR: &str = "/ferrovirt/virt-sidecar";

/// An extended resource of the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its name in a container's limits.
    pub name: &'static str,
    /// The file that the resource stands for, where this process finds it: as long as it is there,
    /// the resource is healthy.
    pub witness: PathBuf,
    /// What every container that holds it gets.
    pub(super) allocation: ContainerAllocateResponse,
}

/// The resources of a node; `devices` is where this process finds the node's `/dev`.
///
/// One whose device node is missing is offered all the same, unhealthy: the node may appear with a
/// kernel module. KVM is not, where a guest does not run with it.
pub fn resources(facts: &Facts, devices: &Path) -> Vec<Resource> {
    let node = |name, path| Resource {
        name,
        witness: devices.join(path),
        allocation: ContainerAllocateResponse {
            devices: vec![node(path)],
            ..ContainerAllocateResponse::default()
        },
    };
    let mut tun = node("devices.kubevirt.io/tun", "net/tun");
    let caches = facts.capabilities.iter();
    tun.allocation.mounts = caches
        .map(|(accelerator, cache)| mount(cache, &format!("{CAPABILITIES}/{accelerator}")))
        .collect();
    let mut resources = vec![
        tun,
        node("devices.kubevirt.io/vhost-net", "vhost-net"),
        Resource {
            name: "devices.kubevirt.io/sidecar",
            witness: facts.sidecar.clone(),
            allocation: ContainerAllocateResponse {
                mounts: vec![mount(&facts.sidecar, SIDECAR)],
                ..ContainerAllocateResponse::default()
            },
        },
    ];
    if facts.kvm {
        resources.push(node("devices.kubevirt.io/kvm", "kvm"));
    }
    resources
}

fn node(path: &str) -> DeviceSpec {
    DeviceSpec {
        container_path: format!("/dev/{path}"),
        host_path: format!("/dev/{path}"),
        // A container that may make nodes could make any with these numbers, with other owners.
        permissions: "rw".to_owned(),
    }
}

fn mount(source: &Path, target: &str) -> Mount {
    Mount {
        container_path: target.to_owned(),
        host_path: source.display().to_string(),
        read_only: true,
    }
}

/// All ids of a resource; the same in every handler's life, so that the kubelet's own record of who
/// holds which stays true.
pub(super) fn list(healthy: bool) -> ListAndWatchResponse {
    let health = if healthy { "Healthy" } else { "Unhealthy" };
    let devices = (0..COUNT).map(|number| Device {
        id: number.to_string(),
        health: health.to_owned(),
    });
    ListAndWatchResponse {
        devices: devices.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn facts(kvm: bool) -> Facts {
        let caches = [
            ("tcg", "/state/capabilities/a"),
            ("kvm", "/state/capabilities/b"),
        ];
        let count = if kvm { 2 } else { 1 };
        let caches = caches.into_iter().take(count);
        Facts {
            kvm,
            capabilities: caches
                .map(|(accelerator, path)| (accelerator.to_owned(), path.into()))
                .collect::<BTreeMap<_, _>>(),
            sidecar: "/state/bin/virt-sidecar".into(),
            ..Facts::default()
        }
    }

    /// `device` or `source:target` of all that a container gets.
    fn gets(resource: &Resource) -> Vec<String> {
        let allocation = &resource.allocation;
        assert!(allocation.mounts.iter().all(|mount| mount.read_only));
        let devices = allocation.devices.iter().map(|device| {
            assert_eq!(device.permissions, "rw");
            assert_eq!(device.host_path, device.container_path);
            device.container_path.clone()
        });
        let mounts = allocation.mounts.iter();
        let mounts = mounts.map(|mount| format!("{}:{}", mount.host_path, mount.container_path));
        devices.chain(mounts).collect()
    }

    #[test]
    fn a_container_gets_what_its_resource_stands_for() {
        let tcg = "/state/capabilities/a:/var/lib/ferrovirt/capabilities/tcg";
        let kvm = "/state/capabilities/b:/var/lib/ferrovirt/capabilities/kvm";
        let sidecar = "/state/bin/virt-sidecar:/ferrovirt/virt-sidecar";
        let table: [(bool, &str, &str, &[&str]); 7] = [
            (false, "tun", "/host/net/tun", &["/dev/net/tun", tcg]),
            (false, "vhost-net", "/host/vhost-net", &["/dev/vhost-net"]),
            (false, "sidecar", "/state/bin/virt-sidecar", &[sidecar]),
            (true, "tun", "/host/net/tun", &["/dev/net/tun", kvm, tcg]),
            (true, "vhost-net", "/host/vhost-net", &["/dev/vhost-net"]),
            (true, "sidecar", "/state/bin/virt-sidecar", &[sidecar]),
            (true, "kvm", "/host/kvm", &["/dev/kvm"]),
        ];
        let offered = [false, true].map(|kvm| resources(&facts(kvm), Path::new("/host")));
        assert_eq!(offered.iter().flatten().count(), table.len());
        for (kvm, name, witness, expected) in table {
            let name = format!("devices.kubevirt.io/{name}");
            let resource = offered[usize::from(kvm)].iter();
            let resource = resource.clone().find(|resource| resource.name == name);
            let resource = resource.unwrap_or_else(|| panic!("{name}, kvm {kvm}"));
            assert_eq!(resource.witness, Path::new(witness), "{name}");
            assert_eq!(gets(resource), expected, "{name}");
        }
    }

    #[test]
    fn ids_are_distinct_and_change_their_health_alone() {
        let (healthy, unhealthy) = (list(true).devices, list(false).devices);
        let ids = |devices: &[Device]| devices.iter().map(|d| d.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&healthy), ids(&unhealthy));
        assert_eq!(
            ids(&healthy).into_iter().collect::<BTreeSet<_>>().len(),
            1000
        );
        assert!(healthy.iter().all(|device| device.health == "Healthy"));
        assert!(unhealthy.iter().all(|device| device.health == "Unhealthy"));
    }
}
