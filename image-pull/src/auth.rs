//! Credentials from the file that `docker login` and `podman login` write.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use crate::error::PullError;

/// The key that docker uses for its own registry, without the scheme.
const DOCKER_HUB_KEY: &str = "index.docker.io";

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// `user:password` in base64.
    auth: Option<String>,
}

/// The credentials for an image; anonymous where there are none.
///
/// The file is `$REGISTRY_AUTH_FILE`, else `$DOCKER_CONFIG/config.json`, else
/// `~/.docker/config.json`. Credential helpers are not asked.
pub(crate) fn credentials(image: &Reference) -> Result<RegistryAuth, PullError> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("REGISTRY_AUTH_FILE") {
        let path = PathBuf::from(path);
        return read(&path, image).map_err(|source| PullError::Credentials { path, source });
    }
    let directory = variable("DOCKER_CONFIG").map(PathBuf::from);
    let directory = directory.or_else(|| Some(Path::new(&variable("HOME")?).join(".docker")));
    let Some(path) = directory.map(|directory| directory.join("config.json")) else {
        return Ok(RegistryAuth::Anonymous);
    };
    match read(&path, image) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(RegistryAuth::Anonymous),
        other => other.map_err(|source| PullError::Credentials { path, source }),
    }
}

fn read(path: &Path, image: &Reference) -> io::Result<RegistryAuth> {
    let text = std::fs::read(path)?;
    let config: ConfigFile = serde_json::from_slice(&text)?;
    Ok(choose(&config, image))
}

/// The entry whose key is the longest that covers the image: a registry, or a path on one.
fn choose(config: &ConfigFile, image: &Reference) -> RegistryAuth {
    let name = format!("{}/{}", image.registry(), image.repository());
    let covers = |key: &str| {
        name.strip_prefix(key)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    let entries = config.auths.iter().filter_map(|(key, entry)| {
        let key = normal(key);
        covers(key).then_some((key.len(), entry))
    });
    let entry = entries.max_by_key(|(length, _)| *length);
    entry
        .and_then(|(_, entry)| STANDARD.decode(entry.auth.as_ref()?).ok())
        .and_then(|auth| String::from_utf8(auth).ok())
        .and_then(|auth| {
            let (user, password) = auth.split_once(':')?;
            Some(RegistryAuth::Basic(user.into(), password.into()))
        })
        .unwrap_or(RegistryAuth::Anonymous)
}

/// A key without scheme and API version: `https://index.docker.io/v1/` is `docker.io`.
fn normal(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or(key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key
        .strip_suffix("/v1")
        .or(key.strip_suffix("/v2"))
        .unwrap_or(key);
    if key == DOCKER_HUB_KEY {
        "docker.io"
    } else {
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_key_that_covers_the_image_wins() {
        let config = r#"{
            "auths": {
                "https://index.docker.io/v1/": { "auth": "aHViOjE=" },
                "quay.io": { "auth": "cXVheTox" },
                "quay.io/team": { "auth": "dGVhbTo6" },
                "https://registry.example:5000/v2/": { "auth": "ZXg6MQ==" },
                "broken.example": { "auth": "%" },
                "helper.example": {}
            },
            "credsStore": "desktop"
        }"#;
        let config = serde_json::from_str(config).unwrap();
        let basic = |user: &str, password: &str| RegistryAuth::Basic(user.into(), password.into());
        for (image, auth) in [
            ("cirros", basic("hub", "1")),
            ("quay.io/x/y", basic("quay", "1")),
            ("quay.io/team/y:1", basic("team", ":")),
            ("quay.io/teammate/y", basic("quay", "1")),
            ("registry.example:5000/a", basic("ex", "1")),
            ("registry.example/a", RegistryAuth::Anonymous),
            ("broken.example/a", RegistryAuth::Anonymous),
            ("helper.example/a", RegistryAuth::Anonymous),
        ] {
            assert_eq!(choose(&config, &image.parse().unwrap()), auth, "{image}");
        }
    }
}
