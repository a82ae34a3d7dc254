//! `virt-image-pull` against a real registry (Debian's docker-registry) on the loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, outside the functions that clippy takes for tests"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// User `pull`, password `secret`: written by `mkpasswd -m bcrypt`.
const HTPASSWD: &str = "pull:$2b$05$it/SWWuLXTiyJ/Q0m/TbPOPDUAF0qp7EDKhTveDDdVG2Vm2iaf46K\n";

/// A registry process of this test's own, ended with it.
struct Registry {
    process: Child,
    address: String,
    directory: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    /// Starts a registry on a free port; `secured` asks for user and password.
    fn start(secured: bool) -> Self {
        let directory = TempDir::new().unwrap();
        let mut config = json!({
            "version": "0.1",
            "log": { "level": "info", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": directory.path().join("storage") } },
            "http": { "addr": "127.0.0.1:0" },
        });
        if secured {
            let path = directory.path().join("htpasswd");
            fs::write(&path, HTPASSWD).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": path } });
        }
        // JSON is YAML.
        let path = directory.path().join("config.yml");
        fs::write(&path, config.to_string()).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Debian's package docker-registry");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = log.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split(['"', ' ', ',']).next()?.to_owned())
        });
        // A log that nobody reads would stop the registry.
        std::thread::spawn(move || log.count());
        let address = address.expect("the registry says where it listens");
        Self {
            process,
            address,
            directory,
        }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Pushes blobs, then manifests, to an image's repository; the last manifest gets its tag.
    fn push(&self, name: &str, blobs: &[&[u8]], manifests: &[&Value]) {
        // Only a second call could fail.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            ..Default::default()
        };
        let client = Client::try_from(config).unwrap();
        let image: Reference = self.image(name).parse().unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let auth = RegistryAuth::Basic("pull".into(), "secret".into());
            client
                .store_auth_if_needed(image.resolve_registry(), &auth)
                .await;
            for blob in blobs {
                client
                    .push_blob(&image, blob.to_vec(), &digest(blob))
                    .await
                    .unwrap();
            }
            for (number, manifest) in manifests.iter().enumerate() {
                let text = manifest.to_string();
                let is_last = number + 1 == manifests.len();
                let digest = digest(text.as_bytes());
                let target = if is_last {
                    image.clone()
                } else {
                    image.clone_with_digest(digest)
                };
                let media_type = manifest["mediaType"].as_str().unwrap().parse().unwrap();
                client
                    .push_manifest_raw(&target, text, media_type)
                    .await
                    .unwrap();
            }
        });
    }

    /// Where the registry keeps a blob's bytes.
    fn stored(&self, blob: &[u8]) -> PathBuf {
        let digest = digest(blob);
        let hex = digest.trim_start_matches("sha256:");
        let blobs = "storage/docker/registry/v2/blobs/sha256";
        self.directory
            .path()
            .join(blobs)
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

fn manifest(layers: &[&[u8]]) -> Value {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| descriptor(LAYER, layer))
        .collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": layers,
    })
}

/// Bytes that do not repeat.
fn noise(length: u32) -> Vec<u8> {
    (0..length)
        .map(|it| (it.wrapping_mul(2_654_435_761) >> 17) as u8)
        .collect()
}

fn command(image: &str, layout: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virt-image-pull"));
    command.arg("--json").arg("--layout").arg(layout).arg(image);
    // Nothing of the user's own credentials and proxies.
    command.env_clear().env("HOME", layout);
    command
}

/// What the program printed, and that nothing but progress is on standard error.
fn answer(output: Output) -> Value {
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        output.status.success(),
        answer["digest"].is_string(),
        "{answer}"
    );
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(!progress.contains("error"), "{progress}");
    answer
}

fn pull(image: &str, layout: &Path) -> Value {
    answer(command(image, layout).output().unwrap())
}

fn blob(layout: &Path, content: &[u8]) -> PathBuf {
    layout.join("blobs").join(digest(content).replace(':', "/"))
}

/// Names in a layout's index, with their digests.
fn names(layout: &Path) -> Vec<(String, String)> {
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = |it: &Value| text(&it["annotations"]["org.opencontainers.image.ref.name"]);
    let manifests = index["manifests"].as_array().unwrap();
    manifests
        .iter()
        .map(|it| (name(it), text(&it["digest"])))
        .collect()
}

#[test]
fn an_image_is_pulled_once_and_its_new_version_again() {
    let registry = Registry::start(false);
    let directory = TempDir::new().unwrap();
    let layout = directory.path();
    let (base, old, new) = (noise(3 << 20), b"old".to_vec(), b"new".to_vec());
    // The same layer twice: legal, and one download.
    let first = manifest(&[&base, &old, &old]);
    registry.push("disks/demo:1", &[b"{}", &base, &old], &[&first]);
    let name = registry.image("disks/demo:1");
    let expected = digest(first.to_string().as_bytes());
    assert_eq!(pull(&name, layout), json!({ "digest": expected }));
    for content in [&base[..], &old, b"{}", first.to_string().as_bytes()] {
        assert_eq!(fs::read(blob(layout, content)).unwrap(), content);
    }
    assert_eq!(names(layout), [(name.clone(), expected.clone())]);
    let inode = fs::metadata(blob(layout, &base)).unwrap().ino();

    // Without the registry's blob, the second pull shows that nothing is fetched again.
    let aside = directory.path().join("aside");
    fs::rename(registry.stored(&base), &aside).unwrap();
    assert_eq!(pull(&name, layout), json!({ "digest": expected }));
    fs::rename(&aside, registry.stored(&base)).unwrap();

    let second = manifest(&[&base, &new]);
    registry.push("disks/demo:1", &[&new], &[&second]);
    let expected = digest(second.to_string().as_bytes());
    assert_eq!(pull(&name, layout), json!({ "digest": expected }));
    assert_eq!(names(layout), [(name, expected)]);
    assert_eq!(fs::metadata(blob(layout, &base)).unwrap().ino(), inode);
}

#[test]
fn many_pulls_of_one_image_at_once_are_one_download_each() {
    let registry = Registry::start(false);
    let directory = TempDir::new().unwrap();
    let layers = [noise(5 << 20), noise(4 << 20), noise(3 << 20)];
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let blobs = [&layers[..], &[b"{}"]].concat();
    registry.push("one:1", &blobs, &[&manifest(&layers)]);
    registry.push("two:1", &blobs, &[&manifest(&layers)]);
    let pulls = ["one:1", "two:1", "one:1", "two:1"].map(|name| {
        let mut command = command(&registry.image(name), directory.path());
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    for pull in pulls {
        assert!(answer(pull.wait_with_output().unwrap())["digest"].is_string());
    }
    assert_eq!(names(directory.path()).len(), 2);
    for layer in layers {
        assert!(fs::read(blob(directory.path(), layer)).unwrap() == layer);
    }
    let blobs = fs::read_dir(directory.path().join("blobs/sha256")).unwrap();
    let unfinished = blobs.filter(|it| it.as_ref().unwrap().path().extension().is_some());
    assert_eq!(unfinished.count(), 0);
}

#[test]
fn a_pull_goes_on_where_an_earlier_one_stopped() {
    let registry = Registry::start(false);
    let layer = noise(1 << 20);
    registry.push("demo:1", &[b"{}", &layer], &[&manifest(&[&layer])]);
    let damaged = [&noise(1000)[..], b"damaged"].concat();
    let too_long = noise(2 << 20);
    for left in [&layer[..700_000], &layer, &damaged, &too_long] {
        let directory = TempDir::new().unwrap();
        let file = blob(directory.path(), &layer);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file.with_extension("partial"), left).unwrap();
        let answer = pull(&registry.image("demo:1"), directory.path());
        assert!(answer["digest"].is_string(), "{answer}");
        assert!(fs::read(&file).unwrap() == layer);
        assert!(!file.with_extension("partial").exists());
    }
}

#[test]
fn an_index_gives_this_machine_its_own() {
    let registry = Registry::start(false);
    let (arm, amd) = (manifest(&[b"arm"]), manifest(&[b"amd"]));
    let index = |platforms: &[(&str, &Value)]| {
        let entry = |(architecture, manifest): &(&str, &Value)| {
            let mut entry = descriptor(MANIFEST, manifest.to_string().as_bytes());
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            entry
        };
        let manifests: Vec<_> = platforms.iter().map(entry).collect();
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
    };
    let both = index(&[("arm64", &arm), ("amd64", &amd)]);
    registry.push("demo:1", &[b"{}", b"arm", b"amd"], &[&arm, &amd, &both]);
    let directory = TempDir::new().unwrap();
    let top = digest(both.to_string().as_bytes());
    assert_eq!(
        pull(&registry.image("demo:1"), directory.path()),
        json!({ "digest": top })
    );
    assert!(blob(directory.path(), b"amd").exists());
    assert!(!blob(directory.path(), b"arm").exists());

    registry.push("demo:2", &[], &[&index(&[("arm64", &arm)])]);
    let answer = pull(&registry.image("demo:2"), directory.path());
    let name = registry.image("demo:2");
    let error = format!("{name} has nothing for linux/amd64; it has linux/arm64");
    assert_eq!(answer, json!({ "error": error }));
}

#[test]
fn what_the_registry_garbles_is_refused() {
    let registry = Registry::start(false);
    let layer = noise(100_000);
    registry.push("demo:1", &[b"{}", &layer], &[&manifest(&[&layer])]);
    let mut garbled = layer.clone();
    garbled[50_000] ^= 1;
    fs::write(registry.stored(&layer), &garbled).unwrap();
    let directory = TempDir::new().unwrap();
    let answer = pull(&registry.image("demo:1"), directory.path());
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains(digest(&layer).as_str()), "{error}");
    assert!(!blob(directory.path(), &layer).exists());
    assert!(
        !directory.path().join("index.json").exists(),
        "a name is given to whole images"
    );

    fs::write(registry.stored(&layer), &layer).unwrap();
    assert!(pull(&registry.image("demo:1"), directory.path())["digest"].is_string());
}

#[test]
fn a_registry_that_asks_for_a_password_gets_the_configured_one() {
    let registry = Registry::start(true);
    registry.push("demo:1", &[b"{}", b"x"], &[&manifest(&[b"x"])]);
    let directory = TempDir::new().unwrap();
    let image = registry.image("demo:1");
    let refused = format!(
        "registry {} refuses {image}; check the name, or log in with docker login",
        registry.address
    );
    assert_eq!(pull(&image, directory.path()), json!({ "error": refused }));

    let credentials = directory.path().join("auth.json");
    let auths = json!({ "auths": { &registry.address: { "auth": "cHVsbDpzZWNyZXQ=" } } });
    fs::write(&credentials, auths.to_string()).unwrap();
    let mut command = command(&image, directory.path());
    let output = command
        .env("REGISTRY_AUTH_FILE", &credentials)
        .output()
        .unwrap();
    assert!(answer(output)["digest"].is_string());
}

#[test]
fn failures_say_what_to_do() {
    let registry = Registry::start(false);
    let directory = TempDir::new().unwrap();
    let address = registry.address.clone();
    let error = |image: &str| {
        let answer = pull(image, directory.path());
        answer["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    };
    let image = registry.image("none:1");
    assert_eq!(
        error(&image),
        format!("registry {address} has no image {image}; check its name and tag")
    );
    assert!(error("Not An Image").starts_with("\"Not An Image\" is not an image name"));
    drop(registry);
    let gone = error(&image);
    assert!(
        gone.starts_with(&format!("cannot fetch {image} from registry {address}: ")),
        "{gone}"
    );
    assert!(gone.contains("Connection refused"), "{gone}");
    assert!(!gone.contains('\n'));
}
