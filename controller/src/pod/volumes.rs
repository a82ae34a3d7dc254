//! What is mounted into `compute`: the pod's own directories, and what the instance's volumes and
//! credentials are made from.
//!
//! ```text
//! /etc/podinfo/vmi                          the instance, from the pod's annotation
//! /run/container-disks/volume-VOLUME.sock   where a container disk's program listens
//! /run/virt-launcher/                       the launcher's runtime directory
//!   claims/VOLUME/disk.img                  a claim with a file system
//!   config/VOLUME/KEY                       config maps and the like, which become disks
//!   host-disks/VOLUME/FILE                  a file of the node
//!   secrets/VOLUME-{user,network}/KEY       cloud-init's
//!   secrets/access-INDEX/KEY                an access credential's, by its place in the list
//! /dev/claims/VOLUME                        a claim that is a block device
//! ```

use std::path::Path;

use crds::{HostDisk, HostDiskType, VirtualMachineInstance};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIProjection, DownwardAPIVolumeFile,
    DownwardAPIVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath,
    LocalObjectReference, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
    ProjectedVolumeSource, SecretVolumeSource, ServiceAccountTokenProjection, Volume, VolumeDevice,
    VolumeMount, VolumeProjection,
};

use super::{Context, RenderError, fit, metadata};

/// The launcher's runtime directory. On the node it is
/// `/var/lib/kubelet/pods/UID/volumes/kubernetes.io~empty-dir/runtime`, where virt-handler finds
/// the launcher's socket.
const RUNTIME: Mount = Mount {
    volume: "runtime",
    path: "/run/virt-launcher",
};

/// Where container disks are handed over.
const CONTAINER_DISKS: Mount = Mount {
    volume: "container-disks",
    path: "/run/container-disks",
};

/// What the pod is told of itself.
const POD_INFO: Mount = Mount {
    volume: "podinfo",
    path: "/etc/podinfo",
};

/// How long a token that the guest gets is valid, in seconds. The API server extends this very
/// figure to a year, for holders that read a token once (Kubernetes'
/// `--service-account-extend-token-expiration`): a guest has it on a disk that does not change.
const TOKEN_SECONDS: i64 = 3607;

/// One of the pod's own directories.
struct Mount {
    volume: &'static str,
    path: &'static str,
}

impl Mount {
    fn writable(&self) -> VolumeMount {
        mount(self.volume.to_owned(), self.path.to_owned(), None)
    }

    fn read_only(&self) -> VolumeMount {
        mount(self.volume.to_owned(), self.path.to_owned(), Some(true))
    }
}

/// The pod's volumes, and what `compute` has of them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Volumes {
    pub(super) volumes: Vec<Volume>,
    pub(super) mounts: Vec<VolumeMount>,
    pub(super) devices: Vec<VolumeDevice>,
}

/// The runtime directory, for who only reads there.
pub(super) fn runtime_read_only() -> VolumeMount {
    RUNTIME.read_only()
}

/// Where container disks are handed over, for who makes the socket.
pub(super) fn container_disks() -> VolumeMount {
    CONTAINER_DISKS.writable()
}

/// Everything that `compute` finds mounted.
///
/// # Errors
/// When a claim does not exist, or when a volume is of a kind that the cluster does not allow.
pub(super) fn volumes(
    vmi: &VirtualMachineInstance,
    context: &Context,
) -> Result<Volumes, RenderError> {
    let mut all = Volumes::default();
    all.own();
    for volume in &vmi.spec.volumes {
        all.source(volume, context)?;
    }
    for (index, credential) in vmi.spec.access_credentials.iter().enumerate() {
        let keys = credential.ssh_public_key.as_ref();
        if let Some(secret) = keys.and_then(|keys| keys.source.secret.as_ref()) {
            all.secret(
                format!("access-{index}"),
                format!("access-{index}"),
                &secret.secret_name,
            );
        }
    }
    Ok(all)
}

impl Volumes {
    /// The directories of the pod itself.
    fn own(&mut self) {
        for own in [RUNTIME, CONTAINER_DISKS] {
            self.volumes.push(Volume {
                name: own.volume.to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            });
        }
        self.volumes.push(Volume {
            name: POD_INFO.volume.to_owned(),
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![DownwardAPIVolumeFile {
                    path: "vmi".to_owned(),
                    field_ref: Some(field(&format!("metadata.annotations['{}']", metadata::VMI))),
                    ..DownwardAPIVolumeFile::default()
                }]),
                ..DownwardAPIVolumeSource::default()
            }),
            ..Volume::default()
        });
        // Init holds a lock in both of the writable ones.
        self.mounts = vec![
            RUNTIME.writable(),
            CONTAINER_DISKS.writable(),
            POD_INFO.read_only(),
        ];
    }

    /// What one volume of the instance's is made from; nothing where the launcher makes it.
    fn source(&mut self, volume: &crds::Volume, context: &Context) -> Result<(), RenderError> {
        let name = &volume.name;
        if let Some(claim) = &volume.persistent_volume_claim {
            self.claim(name, claim, false, context)?;
        }
        let beneath = volume.ephemeral.as_ref();
        if let Some(claim) = beneath.and_then(|volume| volume.persistent_volume_claim.as_ref()) {
            self.claim(name, claim, true, context)?;
        }
        if let Some(disk) = &volume.host_disk {
            if !context.settings.host_disk {
                return Err(RenderError::HostDisk {
                    volume: name.clone(),
                });
            }
            self.host_disk(name, disk);
        }
        if let Some(source) = &volume.cloud_init_no_cloud {
            self.cloud_init(name, &source.secret_ref, &source.network_data_secret_ref);
        }
        if let Some(source) = &volume.cloud_init_config_drive {
            self.cloud_init(name, &source.secret_ref, &source.network_data_secret_ref);
        }
        if let Some(config) = config(volume) {
            self.read_only(config, format!("{}/config/{name}", RUNTIME.path));
        }
        Ok(())
    }

    fn claim(
        &mut self,
        volume: &str,
        source: &PersistentVolumeClaimVolumeSource,
        read_only: bool,
        context: &Context,
    ) -> Result<(), RenderError> {
        let mut claims = context.claims.iter();
        let claim = claims
            .find(|claim| claim.metadata.name.as_deref() == Some(&source.claim_name))
            .ok_or_else(|| RenderError::NoClaim {
                volume: volume.to_owned(),
                claim: source.claim_name.clone(),
            })?;
        let name = fit("disk-", volume);
        let mode = claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
        if mode == Some("Block") {
            self.devices.push(VolumeDevice {
                device_path: format!("/dev/claims/{volume}"),
                name: name.clone(),
            });
        } else {
            let read_only = read_only || source.read_only == Some(true);
            let path = format!("{}/claims/{volume}", RUNTIME.path);
            let read_only = read_only.then_some(true);
            self.mounts.push(mount(name.clone(), path, read_only));
        }
        self.volumes.push(Volume {
            name,
            persistent_volume_claim: Some(source.clone()),
            ..Volume::default()
        });
        Ok(())
    }

    /// The directory of a disk that lies on the node.
    fn host_disk(&mut self, volume: &str, disk: &HostDisk) {
        let name = fit("disk-", volume);
        let directory = Path::new(&disk.path).parent().unwrap_or(Path::new("/"));
        let type_ = match disk.type_ {
            HostDiskType::Disk => "Directory",
            HostDiskType::DiskOrCreate => "DirectoryOrCreate",
        };
        let path = format!("{}/host-disks/{volume}", RUNTIME.path);
        self.mounts.push(mount(name.clone(), path, None));
        self.volumes.push(Volume {
            name,
            host_path: Some(HostPathVolumeSource {
                path: directory.display().to_string(),
                type_: Some(type_.to_owned()),
            }),
            ..Volume::default()
        });
    }

    fn cloud_init(
        &mut self,
        volume: &str,
        user: &Option<LocalObjectReference>,
        network: &Option<LocalObjectReference>,
    ) {
        for (kind, secret) in [("user", user), ("network", network)] {
            if let Some(secret) = secret {
                let directory = format!("{volume}-{kind}");
                self.secret(fit(&format!("{kind}-"), volume), directory, &secret.name);
            }
        }
    }

    /// A secret, mounted at `directory` of the launcher's secrets.
    fn secret(&mut self, name: String, directory: String, secret: &str) {
        let volume = Volume {
            name,
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.to_owned()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        };
        self.read_only(volume, format!("{}/secrets/{directory}", RUNTIME.path));
    }

    fn read_only(&mut self, volume: Volume, path: String) {
        self.mounts
            .push(mount(volume.name.clone(), path, Some(true)));
        self.volumes.push(volume);
    }
}

/// The pod's volume behind one of the instance's that holds files, of which the launcher makes a
/// disk.
fn config(volume: &crds::Volume) -> Option<Volume> {
    let mut made = Volume {
        name: fit("disk-", &volume.name),
        ..Volume::default()
    };
    if let Some(source) = &volume.config_map {
        made.config_map = Some(ConfigMapVolumeSource {
            name: source.name.clone(),
            optional: source.optional,
            ..ConfigMapVolumeSource::default()
        });
    } else if let Some(source) = &volume.secret {
        made.secret = Some(SecretVolumeSource {
            secret_name: Some(source.secret_name.clone()),
            optional: source.optional,
            ..SecretVolumeSource::default()
        });
    } else if let Some(source) = &volume.downward_api {
        made.downward_api = Some(DownwardAPIVolumeSource {
            items: Some(source.fields.clone()),
            ..DownwardAPIVolumeSource::default()
        });
    } else if volume.service_account.is_some() {
        made.projected = Some(service_account());
    } else {
        return None;
    }
    Some(made)
}

/// The files that Kubernetes mounts into pods of a service account, which no container of the pod
/// finds in their usual place.
fn service_account() -> ProjectedVolumeSource {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            expiration_seconds: Some(TOKEN_SECONDS),
            path: "token".to_owned(),
            ..ServiceAccountTokenProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let authority = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: "kube-root-ca.crt".to_owned(),
            items: Some(vec![KeyToPath {
                key: "ca.crt".to_owned(),
                path: "ca.crt".to_owned(),
                ..KeyToPath::default()
            }]),
            ..ConfigMapProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection {
            items: Some(vec![DownwardAPIVolumeFile {
                path: "namespace".to_owned(),
                field_ref: Some(field("metadata.namespace")),
                ..DownwardAPIVolumeFile::default()
            }]),
        }),
        ..VolumeProjection::default()
    };
    ProjectedVolumeSource {
        sources: Some(vec![token, authority, namespace]),
        ..ProjectedVolumeSource::default()
    }
}

/// A field of the pod's.
pub(super) fn field(path: &str) -> ObjectFieldSelector {
    ObjectFieldSelector {
        field_path: path.to_owned(),
        ..ObjectFieldSelector::default()
    }
}

fn mount(name: String, mount_path: String, read_only: Option<bool>) -> VolumeMount {
    VolumeMount {
        name,
        mount_path,
        read_only,
        ..VolumeMount::default()
    }
}
