//! What cloud-init is told: pure.

use std::str::FromStr;

use anyhow::bail;
use clap::ValueEnum;
use crds::{CloudInitConfigDriveSource, CloudInitNoCloudSource, Volume};
use serde_json::{Map, Value, json};

use super::Vm;
use crate::print::yaml;

/// The volume's name, as KubeVirt's virtctl has it.
const NAME: &str = "cloudinitdisk";

/// How cloud-init finds its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum CloudInit {
    /// A disk labelled `cidata`.
    #[default]
    #[value(name = "noCloud")]
    NoCloud,
    /// A disk labelled `config-2`.
    #[value(name = "configDrive")]
    ConfigDrive,
    /// Not at all.
    #[value(name = "none")]
    None,
}

/// A public key, as one line of `authorized_keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SshKey(String);

/// The text is no public key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no public key; give the text of one, as \"$(cat ~/.ssh/id_ed25519.pub)\"")]
pub(super) struct ParseSshKeyError;

impl FromStr for SshKey {
    type Err = ParseSshKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = text.trim();
        let mut words = key.split(' ');
        let kind = words.next().is_some_and(|kind| {
            ["ssh-", "ecdsa-", "sk-"]
                .iter()
                .any(|prefix| kind.starts_with(prefix))
        });
        if kind && words.next().is_some() && !key.contains(char::is_control) {
            Ok(Self(key.to_owned()))
        } else {
            Err(ParseSshKeyError)
        }
    }
}

/// The volume, where there is something to tell.
pub(super) fn volume(flags: &Vm, password: Option<&str>) -> anyhow::Result<Option<Volume>> {
    let user_data = user_data(flags, password);
    let user_data_base64 = flags.cloud_init_user_data.clone();
    let network_data_base64 = flags.cloud_init_network_data.clone();
    if user_data.is_none() && user_data_base64.is_none() && network_data_base64.is_none() {
        return Ok(None);
    }
    let (mut no_cloud, mut config_drive) = (None, None);
    match flags.cloud_init {
        CloudInit::None => bail!(
            "--cloud-init none leaves nobody to tell of users, keys and data; leave out the one or \
             the others"
        ),
        CloudInit::NoCloud => {
            no_cloud = Some(CloudInitNoCloudSource {
                network_data_base64,
                user_data,
                user_data_base64,
                ..CloudInitNoCloudSource::default()
            });
        }
        CloudInit::ConfigDrive => {
            config_drive = Some(CloudInitConfigDriveSource {
                network_data_base64,
                user_data,
                user_data_base64,
                ..CloudInitConfigDriveSource::default()
            });
        }
    }
    Ok(Some(Volume {
        name: NAME.to_owned(),
        cloud_init_no_cloud: no_cloud,
        cloud_init_config_drive: config_drive,
        ..Volume::default()
    }))
}

/// A `#cloud-config` that makes the user of the flags; none where they name nothing of one.
fn user_data(flags: &Vm, password: Option<&str>) -> Option<String> {
    let mut config = Map::new();
    if let Some(user) = &flags.user {
        config.insert("user".to_owned(), json!(user));
    }
    if let Some(password) = password {
        // A file's last line ends too.
        let password = password.trim_end_matches(['\r', '\n']);
        config.insert("password".to_owned(), json!(password));
        config.insert("chpasswd".to_owned(), json!({"expire": false}));
    }
    if !flags.ssh_key.is_empty() {
        let keys: Vec<&str> = flags.ssh_key.iter().map(|key| key.0.as_str()).collect();
        config.insert("ssh_authorized_keys".to_owned(), json!(keys));
    }
    let told = !config.is_empty();
    told.then(|| format!("#cloud-config\n{}", yaml(&Value::Object(config))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_one_line() {
        for (text, parsed) in [
            (
                "ssh-ed25519 AAAA ferris@example\n",
                Ok("ssh-ed25519 AAAA ferris@example"),
            ),
            ("ecdsa-sha2-nistp256 AAAA", Ok("ecdsa-sha2-nistp256 AAAA")),
            ("/root/.ssh/id_ed25519.pub", Err(ParseSshKeyError)),
            ("ssh-ed25519", Err(ParseSshKeyError)),
            ("ssh-ed25519 AAAA\nssh-ed25519 BBBB", Err(ParseSshKeyError)),
        ] {
            assert_eq!(
                text.parse(),
                parsed.map(|key| SshKey(key.to_owned())),
                "{text:?}"
            );
        }
    }
}
