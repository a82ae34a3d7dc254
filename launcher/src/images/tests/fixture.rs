//! Images made by hand: layers, OCI layouts and docker archives.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use sha2::Digest as _;

/// A layer's content as tar, one call an entry.
#[derive(Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn entry(mut self, kind: u8, name: &[u8], link: &[u8], body: &[u8]) -> Self {
        self.header(kind, name, link, body.len() as u64);
        self.raw(body)
    }

    pub(super) fn file(self, name: &str, body: &[u8]) -> Self {
        self.entry(b'0', name.as_bytes(), b"", body)
    }

    pub(super) fn directory(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    /// A PAX header for the entry that follows.
    pub(super) fn pax(self, key: &str, value: &str) -> Self {
        let rest = format!(" {key}={value}\n");
        let length = (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length);
        self.entry(
            b'x',
            b"pax",
            b"",
            format!("{}{rest}", length.unwrap()).as_bytes(),
        )
    }

    /// A header alone, which may promise what does not follow.
    pub(super) fn header(&mut self, kind: u8, name: &[u8], link: &[u8], size: u64) {
        let mut header = tar::Header::new_gnu();
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name);
        fields.linkname[..link.len()].copy_from_slice(link);
        header.set_size(size);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_cksum();
        self.0.extend(header.as_bytes());
    }

    pub(super) fn promising(mut self, name: &str, size: u64) -> Self {
        self.header(b'0', name.as_bytes(), b"", size);
        self
    }

    pub(super) fn raw(mut self, body: &[u8]) -> Self {
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    /// Without the blocks that end an archive.
    pub(super) fn unended(self) -> Vec<u8> {
        self.0
    }
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

pub(super) fn sha256(data: &[u8]) -> String {
    super::Digest::from(sha2::Sha256::new_with_prefix(data)).to_string()
}

/// Writes a blob and returns its descriptor.
pub(super) fn blob(layout: &Path, media_type: &str, data: &[u8]) -> serde_json::Value {
    let digest = sha256(data);
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, data).unwrap();
    json!({ "mediaType": media_type, "digest": digest, "size": data.len() })
}

/// Writes an OCI layout that holds one image; layers from the base up. Returns the manifest's
/// descriptor.
pub(super) fn layout(directory: &Path, name: &str, layers: &[Vec<u8>]) -> serde_json::Value {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            blob(
                directory,
                "application/vnd.oci.image.layer.v1.tar+gzip",
                layer,
            )
        })
        .collect();
    let mut manifest = manifest(directory, &layers);
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    index(directory, &[manifest.clone()]);
    manifest
}

/// Writes an image's manifest; returns its descriptor.
pub(super) fn manifest(directory: &Path, layers: &[serde_json::Value]) -> serde_json::Value {
    let config = blob(directory, "application/vnd.oci.image.config.v1+json", b"{}");
    let text = json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
    blob(
        directory,
        "application/vnd.oci.image.manifest.v1+json",
        text.as_bytes(),
    )
}

/// Writes the layout's `index.json`.
pub(super) fn index(directory: &Path, manifests: &[serde_json::Value]) {
    let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    fs::write(directory.join("index.json"), index).unwrap();
}
