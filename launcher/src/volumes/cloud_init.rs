//! The disks that tell cloud-init what to do: NoCloud and ConfigDrive.
//!
//! Sources: cloud-init's `datasources/nocloud` and `datasources/configdrive` pages, and the
//! values that KubeVirt puts in. The file system is ISO 9660 with Rock Ridge (Linux, BSD) and
//! Joliet (Windows): KubeVirt's choice, readable as a disk and as a CD-ROM alike.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::{
    CloudInitConfigDriveSource, CloudInitNoCloudSource,
    SSHPublicKeyAccessCredentialPropagationMethod, VirtualMachineInstance,
};
use hadris_fs::{Content, Node, Tree};
use hadris_iso::{IsoId, IsoOptions};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::error::VolumeError;
use super::layout::{Layout, SecretData};

/// A disk to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seed {
    /// The volume's label, by which cloud-init finds it.
    pub(super) label: &'static str,
    /// Files by their path on the disk.
    pub(super) files: Vec<(&'static str, Text)>,
}

/// A file's content.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Text {
    /// Known already.
    Known(Vec<u8>),
    /// In a secret's directory, under the first of these keys that is there.
    Secret(PathBuf, [&'static str; 2]),
    /// Meta data, with the public keys in these secrets' directories.
    MetaData(MetaData, Vec<PathBuf>),
}

/// Meta data of one of the two kinds, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MetaData {
    /// Lines of YAML.
    NoCloud(String),
    /// An object.
    ConfigDrive(Map<String, Value>),
}

impl MetaData {
    /// The file, with these keys in it, numbered as KubeVirt does.
    pub(super) fn with_keys(&self, keys: &[String]) -> Vec<u8> {
        let keys: Map<String, Value> = keys
            .iter()
            .enumerate()
            .map(|(index, key)| (index.to_string(), key.as_str().into()))
            .collect();
        let text = match self {
            Self::NoCloud(lines) if keys.is_empty() => lines.clone(),
            Self::NoCloud(lines) => format!("{lines}public-keys: {}\n", Value::Object(keys)),
            Self::ConfigDrive(object) => {
                let mut object = object.clone();
                if !keys.is_empty() {
                    object.insert("public_keys".to_owned(), keys.into());
                }
                Value::Object(object).to_string()
            }
        };
        text.into_bytes()
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // User data hold passwords: none of it belongs in a log.
            Self::Known(text) => write!(f, "{} bytes", text.len()),
            Self::Secret(directory, keys) => write!(f, "{} {keys:?}", directory.display()),
            Self::MetaData(data, keys) => write!(f, "{data:?} {keys:?}"),
        }
    }
}

/// The fields that both sources have.
struct Fields<'a> {
    user: Data<'a>,
    network: Data<'a>,
}

struct Data<'a> {
    inline: &'a Option<String>,
    base64: &'a Option<String>,
    field: &'static str,
    secret: bool,
}

/// Both sources have the same fields, as types of their own, as KubeVirt has them.
macro_rules! fields_from {
    ($source:ty) => {
        impl<'a> From<&'a $source> for Fields<'a> {
            fn from(source: &'a $source) -> Self {
                Self {
                    user: Data {
                        inline: &source.user_data,
                        base64: &source.user_data_base64,
                        field: "userDataBase64",
                        secret: source.secret_ref.is_some(),
                    },
                    network: Data {
                        inline: &source.network_data,
                        base64: &source.network_data_base64,
                        field: "networkDataBase64",
                        secret: source.network_data_secret_ref.is_some(),
                    },
                }
            }
        }
    };
}
fields_from!(CloudInitNoCloudSource);
fields_from!(CloudInitConfigDriveSource);

/// What a NoCloud disk holds.
pub(super) fn no_cloud(
    vmi: &VirtualMachineInstance,
    volume: &str,
    source: &CloudInitNoCloudSource,
    layout: &Layout,
) -> Result<Seed, VolumeError> {
    let fields = Fields::from(source);
    // YAML, of which a JSON string is part: the simplest readers look at the start of a line.
    let (id, name) = (json!(instance_id(vmi)), json!(hostname(vmi)));
    let meta_data = format!("instance-id: {id}\nlocal-hostname: {name}\n");
    // Without a file of user data cloud-init does not take the disk for its own.
    let user_data = fields.user.text(volume, layout, SecretData::User)?;
    let keys = key_directories(vmi, layout, |method| method.no_cloud.is_some());
    let meta_data = Text::MetaData(MetaData::NoCloud(meta_data), keys);
    let mut files = vec![
        ("user-data", user_data.unwrap_or(Text::Known(Vec::new()))),
        ("meta-data", meta_data),
    ];
    let network = fields.network.text(volume, layout, SecretData::Network)?;
    files.extend(network.map(|text| ("network-config", text)));
    Ok(Seed {
        label: "cidata",
        files,
    })
}

/// What a ConfigDrive disk holds.
pub(super) fn config_drive(
    vmi: &VirtualMachineInstance,
    volume: &str,
    source: &CloudInitConfigDriveSource,
    layout: &Layout,
) -> Result<Seed, VolumeError> {
    let fields = Fields::from(source);
    let instance_id = instance_id(vmi);
    // cloud-init takes this for the instance's identity and requires it.
    let uuid =
        vmi.metadata.uid.clone().unwrap_or_else(|| {
            Uuid::new_v5(&Uuid::NAMESPACE_OID, instance_id.as_bytes()).to_string()
        });
    let hostname = hostname(vmi);
    let meta_data = [
        ("instance_id", instance_id.as_str()),
        ("local_hostname", hostname),
        ("hostname", hostname),
        ("uuid", &uuid),
    ];
    let meta_data = meta_data.map(|(key, value)| (key.to_owned(), value.into()));
    let keys = key_directories(vmi, layout, |method| method.config_drive.is_some());
    let meta_data = Text::MetaData(MetaData::ConfigDrive(Map::from_iter(meta_data)), keys);
    let mut files = vec![("openstack/latest/meta_data.json", meta_data)];
    let user = fields.user.text(volume, layout, SecretData::User)?;
    files.extend(user.map(|text| ("openstack/latest/user_data", text)));
    let network = fields.network.text(volume, layout, SecretData::Network)?;
    files.extend(network.map(|text| ("openstack/latest/network_data.json", text)));
    Ok(Seed {
        label: "config-2",
        files,
    })
}

/// Where the secrets of those access credentials are that come by this kind of disk.
fn key_directories(
    vmi: &VirtualMachineInstance,
    layout: &Layout,
    by_this: impl Fn(&SSHPublicKeyAccessCredentialPropagationMethod) -> bool,
) -> Vec<PathBuf> {
    let credentials = vmi.spec.access_credentials.iter().enumerate();
    credentials
        .filter(|(_, credential)| {
            let keys = credential.ssh_public_key.as_ref();
            keys.is_some_and(|keys| by_this(&keys.propagation_method))
        })
        .map(|(index, _)| layout.access_credential(index))
        .collect()
}

impl Data<'_> {
    fn text(
        &self,
        volume: &str,
        layout: &Layout,
        data: SecretData,
    ) -> Result<Option<Text>, VolumeError> {
        if let Some(text) = self.inline {
            return Ok(Some(Text::Known(text.clone().into_bytes())));
        }
        if let Some(text) = self.base64 {
            let decoded = STANDARD
                .decode(text)
                .map_err(|source| VolumeError::Base64 {
                    volume: volume.to_owned(),
                    field: self.field,
                    source,
                })?;
            return Ok(Some(Text::Known(decoded)));
        }
        let secret = || Text::Secret(layout.secret(volume, data), data.keys());
        Ok(self.secret.then(secret))
    }
}

/// QEMU refuses to write to an image that ends between two units of direct I/O: 4 KiB on tmpfs, and on
/// disks with such sectors. ISO 9660 itself counts in 2 KiB.
const ALIGNMENT: usize = 4096;

/// The disk's bytes: the same for the same files, whenever they are made.
pub(super) fn iso(label: &str, files: &[(impl AsRef<str>, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let mut tree = Tree::new();
    for (path, content) in files {
        let path = path.as_ref();
        let directories = path.match_indices('/').map(|(end, _)| &path[..end]);
        for directory in directories {
            if tree.get(directory).is_none() {
                tree.insert(directory, Node::dir())
                    .map_err(|error| error.to_string())?;
            }
        }
        let node = Node::file(Content::bytes(content.clone()));
        tree.insert(path, node).map_err(|error| error.to_string())?;
    }
    let options = IsoOptions::new()
        .with_id(IsoId::Volume, label)
        .with_joliet()
        .with_rock_ridge();
    let mut image = Vec::new();
    hadris_iso::sync::write(&mut image, &tree, &options).map_err(|error| error.to_string())?;
    image.resize(image.len().next_multiple_of(ALIGNMENT), 0);
    Ok(image)
}

fn instance_id(vmi: &VirtualMachineInstance) -> String {
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or("default");
    format!(
        "{}.{namespace}",
        vmi.metadata.name.as_deref().unwrap_or_default()
    )
}

/// `spec.hostname`, else the name: its first label, of at most 63 characters.
fn hostname(vmi: &VirtualMachineInstance) -> &str {
    let name = vmi.spec.hostname.as_deref().filter(|name| !name.is_empty());
    let name = name.or(vmi.metadata.name.as_deref()).unwrap_or_default();
    let label = name.split('.').next().unwrap_or_default();
    let end = label
        .char_indices()
        .nth(63)
        .map_or(label.len(), |(end, _)| end);
    &label[..end]
}
