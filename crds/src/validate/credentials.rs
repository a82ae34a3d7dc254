//! Rules about access credentials.

use super::text;
use crate::field::Field;
use crate::{AccessCredential, FieldError, SSHPublicKeyAccessCredential, Volume};

pub(super) fn check(
    credentials: &[AccessCredential],
    volumes: &[Volume],
    at: &Field,
    errors: &mut Vec<FieldError>,
) {
    for (index, credential) in credentials.iter().enumerate() {
        let at = at.index(index);
        match &credential.ssh_public_key {
            Some(keys) => ssh_public_key(keys, volumes, &at.at("sshPublicKey"), errors),
            None => errors.push(at.error("says nothing; add sshPublicKey")),
        }
    }
}

fn ssh_public_key(
    keys: &SSHPublicKeyAccessCredential,
    volumes: &[Volume],
    at: &Field,
    errors: &mut Vec<FieldError>,
) {
    match &keys.source.secret {
        Some(secret) => {
            let at = at.at("source.secret.secretName");
            text::object_name("secret", &secret.secret_name, &at, errors);
        }
        None => errors.push(
            at.at("source.secret")
                .error("required; name the secret that holds the keys"),
        ),
    }
    let at = at.at("propagationMethod");
    let method = &keys.propagation_method;
    let (name, volume) = match (&method.no_cloud, &method.config_drive) {
        (Some(_), None) => ("noCloud", "cloudInitNoCloud"),
        (None, Some(_)) => ("configDrive", "cloudInitConfigDrive"),
        (None, None) => {
            errors.push(at.error("says nothing; add noCloud: {} or configDrive: {}"));
            return;
        }
        (Some(_), Some(_)) => {
            errors.push(
                at.at("configDrive")
                    .error("excludes noCloud; leave one of the two"),
            );
            return;
        }
    };
    let carried = volumes.iter().any(|volume| match name {
        "noCloud" => volume.cloud_init_no_cloud.is_some(),
        _ => volume.cloud_init_config_drive.is_some(),
    });
    if !carried {
        errors.push(
            at.at(name)
                .error(format!("needs a volume {volume}; add one")),
        );
    }
}
