//! Rules about volumes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::LocalObjectReference;

use super::text::{self, Unique};
use crate::field::Field;
use crate::{
    CloudInitConfigDriveSource, CloudInitNoCloudSource, DownwardAPIVolumeSource, FieldError,
    HostDisk, HostDiskType, Quantity, Volume,
};

/// KubeVirt's limit of inline cloud-init data, in bytes.
const CLOUD_INIT_MOST: usize = 2048;

pub(super) fn check(volumes: &[Volume], at: &Field, errors: &mut Vec<FieldError>) {
    let mut names = Unique::new("give each volume a name of its own");
    let mut claims = Unique::new("a claim is one disk; remove this volume");
    let mut accounts = Unique::new("a pod has one service account; remove this volume");
    for (index, volume) in volumes.iter().enumerate() {
        let at = at.index(index);
        text::dns_label(&volume.name, &at.at("name"), errors);
        names.add(format!("{:?}", volume.name), at.at("name"), errors);
        if let Some(claim) = &volume.persistent_volume_claim {
            let at = at.at("persistentVolumeClaim.claimName");
            claims.add(format!("{:?}", claim.claim_name), at, errors);
        }
        if volume.service_account.is_some() {
            accounts.add("a service account", at.at("serviceAccount"), errors);
        }
        source(volume, &at, errors);
    }
}

fn source(volume: &Volume, at: &Field, errors: &mut Vec<FieldError>) {
    let given: Vec<_> = [
        (
            volume.cloud_init_config_drive.is_some(),
            "cloudInitConfigDrive",
        ),
        (volume.cloud_init_no_cloud.is_some(), "cloudInitNoCloud"),
        (volume.config_map.is_some(), "configMap"),
        (volume.container_disk.is_some(), "containerDisk"),
        (volume.downward_api.is_some(), "downwardAPI"),
        (volume.empty_disk.is_some(), "emptyDisk"),
        (volume.ephemeral.is_some(), "ephemeral"),
        (volume.host_disk.is_some(), "hostDisk"),
        (
            volume.persistent_volume_claim.is_some(),
            "persistentVolumeClaim",
        ),
        (volume.secret.is_some(), "secret"),
        (volume.service_account.is_some(), "serviceAccount"),
    ]
    .into_iter()
    .filter_map(|(given, name)| given.then_some(name))
    .collect();
    match given.as_slice() {
        [_] => {}
        [] => errors.push(at.error(
            "has no source; add containerDisk, persistentVolumeClaim, ephemeral, emptyDisk, \
             hostDisk, cloudInitNoCloud, cloudInitConfigDrive, configMap, secret, serviceAccount \
             or downwardAPI",
        )),
        several => errors.push(at.error(format!(
            "has {} sources; leave one of {}",
            several.len(),
            several.join(", ")
        ))),
    }
    if let Some(source) = &volume.container_disk {
        let at = at.at("containerDisk");
        text::image(&source.image, &at.at("image"), errors);
        if let Some(path) = &source.path {
            text::absolute_path(path, &at.at("path"), errors);
        }
    }
    if let Some(source) = &volume.cloud_init_no_cloud {
        cloud_init(source.into(), &at.at("cloudInitNoCloud"), errors);
    }
    if let Some(source) = &volume.cloud_init_config_drive {
        cloud_init(source.into(), &at.at("cloudInitConfigDrive"), errors);
    }
    if let Some(source) = &volume.empty_disk {
        capacity(&source.capacity, &at.at("emptyDisk.capacity"), errors);
    }
    if let Some(source) = &volume.host_disk {
        host_disk(source, &at.at("hostDisk"), errors);
    }
    if let Some(source) = &volume.ephemeral {
        let at = at.at("ephemeral.persistentVolumeClaim");
        match &source.persistent_volume_claim {
            None => errors.push(at.error("required; name a claim by claimName")),
            Some(claim) => {
                text::object_name("claim", &claim.claim_name, &at.at("claimName"), errors);
            }
        }
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let at = at.at("persistentVolumeClaim.claimName");
        text::object_name("claim", &claim.claim_name, &at, errors);
    }
    objects(volume, at, errors);
}

/// Sources that become a disk of files.
fn objects(volume: &Volume, at: &Field, errors: &mut Vec<FieldError>) {
    if let Some(source) = &volume.config_map {
        let at = at.at("configMap");
        text::object_name("config map", &source.name, &at.at("name"), errors);
        label(source.volume_label.as_deref(), &at, errors);
    }
    if let Some(source) = &volume.secret {
        let at = at.at("secret");
        text::object_name("secret", &source.secret_name, &at.at("secretName"), errors);
        label(source.volume_label.as_deref(), &at, errors);
    }
    if let Some(source) = &volume.service_account {
        let (name, at) = (&source.service_account_name, at.at("serviceAccount"));
        let at = at.at("serviceAccountName");
        text::object_name("service account", name, &at, errors);
    }
    if let Some(source) = &volume.downward_api {
        let at = at.at("downwardAPI");
        downward_api(source, &at, errors);
        label(source.volume_label.as_deref(), &at, errors);
    }
}

fn label(label: Option<&str>, at: &Field, errors: &mut Vec<FieldError>) {
    if let Some(label) = label {
        text::volume_label(label, &at.at("volumeLabel"), errors);
    }
}

fn downward_api(source: &DownwardAPIVolumeSource, at: &Field, errors: &mut Vec<FieldError>) {
    let at = at.at("fields");
    if source.fields.is_empty() {
        errors.push(at.error("required; name at least one file and its fieldRef"));
    }
    let mut paths = Unique::new("give each file a path of its own");
    for (index, file) in source.fields.iter().enumerate() {
        let at = at.index(index);
        let path = &file.path;
        if path.starts_with('/') || path.split('/').any(|part| ["", "..", "."].contains(&part)) {
            errors.push(at.at("path").error(format!(
                "{path:?} is no relative path; write one such as labels, or pod/labels"
            )));
        }
        paths.add(format!("{path:?}"), at.at("path"), errors);
        match (&file.field_ref, &file.resource_field_ref) {
            (Some(_), None) | (None, Some(_)) => {}
            (None, None) => {
                errors.push(at.error("says nothing; add fieldRef or resourceFieldRef"));
            }
            (Some(_), Some(_)) => errors.push(
                at.at("resourceFieldRef")
                    .error("excludes fieldRef; leave one of the two"),
            ),
        }
    }
}

fn capacity(capacity: &Quantity, at: &Field, errors: &mut Vec<FieldError>) {
    if capacity.signum() <= 0
        || capacity
            .bytes()
            .is_none_or(|bytes| i64::try_from(bytes).is_err())
    {
        errors.push(at.error(format!(
            "{capacity} is no size of a disk; write one such as 2Gi"
        )));
    }
}

fn host_disk(disk: &HostDisk, at: &Field, errors: &mut Vec<FieldError>) {
    text::absolute_path(&disk.path, &at.at("path"), errors);
    match (disk.type_, &disk.capacity) {
        (HostDiskType::DiskOrCreate, Some(size)) => capacity(size, &at.at("capacity"), errors),
        (HostDiskType::DiskOrCreate, None) => errors.push(
            at.at("capacity")
                .error("required with type DiskOrCreate; write the size of the disk to create"),
        ),
        (HostDiskType::Disk, Some(_)) => errors.push(
            at.at("capacity")
                .error("only with type DiskOrCreate; remove it, or change the type"),
        ),
        (HostDiskType::Disk, None) => {}
    }
}

/// Either kind of cloud-init source.
struct CloudInit<'a> {
    user: Data<'a>,
    network: Data<'a>,
}

/// One of the data that cloud-init reads, as a manifest may give it.
struct Data<'a> {
    /// The names of the fields, in the order of those below.
    names: [&'static str; 3],
    inline: Option<&'a str>,
    base64: Option<&'a str>,
    secret: Option<&'a LocalObjectReference>,
}

/// Both sources have the same fields, as types of their own, as KubeVirt has them.
macro_rules! cloud_init_from {
    ($source:ty) => {
        impl<'a> From<&'a $source> for CloudInit<'a> {
            fn from(source: &'a $source) -> Self {
                Self {
                    user: Data {
                        names: ["userData", "userDataBase64", "secretRef"],
                        inline: source.user_data.as_deref(),
                        base64: source.user_data_base64.as_deref(),
                        secret: source.secret_ref.as_ref(),
                    },
                    network: Data {
                        names: ["networkData", "networkDataBase64", "networkDataSecretRef"],
                        inline: source.network_data.as_deref(),
                        base64: source.network_data_base64.as_deref(),
                        secret: source.network_data_secret_ref.as_ref(),
                    },
                }
            }
        }
    };
}
cloud_init_from!(CloudInitNoCloudSource);
cloud_init_from!(CloudInitConfigDriveSource);

fn cloud_init(source: CloudInit<'_>, at: &Field, errors: &mut Vec<FieldError>) {
    let given = data(&source.user, at, errors) + data(&source.network, at, errors);
    if given == 0 {
        errors.push(at.error("says nothing; add userData or networkData"));
    }
}

/// Checks one of the data and tells in how many ways it is given.
fn data(data: &Data<'_>, at: &Field, errors: &mut Vec<FieldError>) -> usize {
    let [inline, base64, secret] = data.names;
    if let Some(text) = data.inline {
        length(text.len(), &at.at(inline), secret, errors);
    }
    if let Some(text) = data.base64 {
        let at = at.at(base64);
        match STANDARD.decode(text) {
            Ok(bytes) => length(bytes.len(), &at, secret, errors),
            Err(error) => errors.push(at.error(format!("is not base64: {error}"))),
        }
    }
    if let Some(reference) = data.secret {
        let at = at.at(secret).at("name");
        text::object_name("secret", &reference.name, &at, errors);
    }
    let given: Vec<_> = [
        (data.inline.is_some(), inline),
        (data.base64.is_some(), base64),
        (data.secret.is_some(), secret),
    ]
    .into_iter()
    .filter_map(|(given, name)| given.then_some(name))
    .collect();
    if let [first, .., last] = given.as_slice() {
        errors.push(
            at.at(last)
                .error(format!("excludes {first}; leave one of the two")),
        );
    }
    given.len()
}

fn length(bytes: usize, at: &Field, secret: &str, errors: &mut Vec<FieldError>) {
    if bytes > CLOUD_INIT_MOST {
        errors.push(at.error(format!(
            "has {bytes} bytes, and {CLOUD_INIT_MOST} are the most; put it into a secret and name \
             that by {secret}"
        )));
    }
}
