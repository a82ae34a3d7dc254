//! From images on disk to files in the cache.

mod fixture;
mod layers;

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::digest::Digest;
use super::*;
use fixture::{Tar, blob, gzip, index, layout, manifest, sha256};

const NAME: &str = "registry.example/disks/demo:1.0";

fn disk(image: &str, path: Option<&str>) -> ContainerDiskSource {
    ContainerDiskSource {
        image: image.into(),
        path: path.map(Into::into),
        image_pull_policy: Some(PullPolicy::Never),
        ..Default::default()
    }
}

fn store(directory: &Path) -> Store {
    Store::new(
        directory.join("cache"),
        Some(directory.join("images")),
        None,
    )
}

/// The error's whole chain in one line, as `run` prints it, without the test's own path.
fn complain(directory: &Path, result: Result<PathBuf, ImageError>) -> String {
    let error = result.expect_err("must fail");
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line += &format!(": {error}");
        source = error.source();
    }
    line.replace(directory.to_str().unwrap(), "DIR")
}

/// An image of these layers (from the base up), searched for its disk.
fn extract(layers: &[Vec<u8>], path: Option<&str>) -> (TempDir, Result<PathBuf, ImageError>) {
    let directory = TempDir::new().unwrap();
    layout(&directory.path().join("images"), NAME, layers);
    let result = store(directory.path()).container_disk(&disk(NAME, path));
    (directory, result)
}

#[test]
fn a_layer_that_is_not_what_was_promised_leaves_no_file() {
    let directory = TempDir::new().unwrap();
    let images = directory.path().join("images");
    let good = Tar::default().file("disk/a", b"good").end();
    layout(&images, NAME, std::slice::from_ref(&good));
    let file = images.join("blobs").join(sha256(&good).replace(':', "/"));
    let evil = Tar::default().file("disk/a", b"evil").end();
    let store = store(directory.path());

    fs::write(&file, &evil).unwrap();
    let error = complain(directory.path(), store.container_disk(&disk(NAME, None)));
    assert!(error.contains("copy or pull the image again"), "{error}");

    fs::write(&file, &evil[..512]).unwrap();
    let error = complain(directory.path(), store.container_disk(&disk(NAME, None)));
    assert!(error.contains("is incomplete in DIR/images"), "{error}");

    fs::remove_file(&file).unwrap();
    let error = complain(directory.path(), store.container_disk(&disk(NAME, None)));
    assert!(error.contains("is incomplete in DIR/images"), "{error}");

    fs::write(&file, good).unwrap();
    let path = store.container_disk(&disk(NAME, None)).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"good");
}

#[test]
fn whiteouts_hold_across_layers() {
    let base = gzip(&Tar::default().file("disk/old", b"old").end());
    let top = gzip(
        &Tar::default()
            .file("disk/.wh.old", b"")
            .file("disk/new", b"new")
            .end(),
    );
    let (_directory, result) = extract(&[base, top], None);
    assert_eq!(fs::read(result.unwrap()).unwrap(), b"new");
}

#[test]
fn zeros_become_holes() {
    let mut content = vec![0; 8 << 20];
    content[5 << 20] = 1;
    let (_directory, result) = extract(&[Tar::default().file("disk/a", &content).end()], None);
    let path = result.unwrap();
    assert!(fs::metadata(&path).unwrap().blocks() * 512 <= 128 << 10);
    assert_eq!(fs::read(path).unwrap(), content);
}

#[test]
fn what_was_taken_out_once_is_not_read_again() {
    let (directory, result) = extract(&[Tar::default().file("disk/a", b"x").end()], None);
    let first = fs::metadata(result.unwrap()).unwrap().ino();
    // Without its blobs the image can only come from the cache.
    let blobs = directory.path().join("images/blobs/sha256");
    let layer = sha256(&Tar::default().file("disk/a", b"x").end());
    fs::remove_file(blobs.join(layer.trim_start_matches("sha256:"))).unwrap();
    for path in [None, Some("/disk/a")] {
        let again = store(directory.path())
            .container_disk(&disk(NAME, path))
            .unwrap();
        assert_eq!(fs::metadata(again).unwrap().ino(), first);
    }
}

#[test]
fn many_launchers_may_take_out_the_same_disk_at_once() {
    let directory = TempDir::new().unwrap();
    let content: Vec<u8> = (0..1 << 20).map(|it: u32| it as u8 | 1).collect();
    let layer = gzip(&Tar::default().file("disk/a", &content).end());
    layout(&directory.path().join("images"), NAME, &[layer]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let path = store(directory.path())
                    .container_disk(&disk(NAME, None))
                    .unwrap();
                assert!(fs::read(path).unwrap() == content);
            });
        }
    });
}

#[test]
fn kernel_and_initrd_come_out_of_one_image() {
    let directory = TempDir::new().unwrap();
    let layer = Tar::default()
        .file("boot/vmlinuz", b"kernel")
        .file("boot/initrd", b"initrd")
        .end();
    layout(&directory.path().join("images"), NAME, &[layer]);
    let mut boot = KernelBootContainer {
        image: NAME.into(),
        image_pull_policy: Some(PullPolicy::Never),
        initrd_path: Some("/boot/initrd".into()),
        ..Default::default()
    };
    let files = store(directory.path()).kernel_boot(&boot).unwrap();
    assert_eq!(files.kernel, None);
    assert_eq!(fs::read(files.initrd.unwrap()).unwrap(), b"initrd");

    boot.kernel_path = Some("/boot/vmlinuz".into());
    let files = store(directory.path()).kernel_boot(&boot).unwrap();
    assert_eq!(fs::read(files.kernel.unwrap()).unwrap(), b"kernel");

    boot.kernel_path = Some("/boot/bzImage".into());
    let error = store(directory.path()).kernel_boot(&boot).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("image {NAME} holds no file /boot/bzImage")
    );
}

#[test]
fn images_are_found_by_their_whole_name() {
    let directory = TempDir::new().unwrap();
    let images = directory.path().join("images");
    let store = store(directory.path());
    let cases = [
        ("cirros", "docker.io/library/cirros:latest", true),
        ("docker.io/library/cirros:latest", "cirros", true),
        ("quay.io/a/b:1", "quay.io/a/b:1", true),
        ("quay.io/a/b", "quay.io/a/b:latest", true),
        ("quay.io/a/b:1", "quay.io/a/b:2", false),
        ("quay.io/a/b:1", "b:1", false),
        (
            "registry:5000/kubevirt/x:devel",
            "registry:5000/kubevirt/x:devel",
            true,
        ),
        ("x:1", "Not A Name", false),
    ];
    for (number, (asked, stored, found)) in cases.into_iter().enumerate() {
        let content = format!("{number}");
        let layer = Tar::default().file("disk/a", content.as_bytes()).end();
        layout(&images, stored, &[layer]);
        let result = store.container_disk(&disk(asked, None));
        assert_eq!(result.is_ok(), found, "{asked} {stored}");
        if let Ok(path) = result {
            assert_eq!(fs::read_to_string(path).unwrap(), content);
        }
    }
}

#[test]
fn a_digest_finds_its_image_whatever_it_is_called() {
    let directory = TempDir::new().unwrap();
    let layer = Tar::default().file("disk/a", b"x").end();
    let manifest = layout(&directory.path().join("images"), "other:1", &[layer]);
    let digest = manifest["digest"].as_str().unwrap();
    let store = store(directory.path());
    store
        .container_disk(&disk(&format!("quay.io/a/b@{digest}"), None))
        .unwrap();
    store
        .container_disk(&disk(&format!("quay.io/a/b:tag@{digest}"), None))
        .unwrap();
    let other = sha256(b"other");
    let result = store.container_disk(&disk(&format!("quay.io/a/b@{other}"), None));
    let error = complain(directory.path(), result);
    assert!(
        error.contains("is here among other:1; give --images"),
        "{error}"
    );
}

#[test]
fn an_index_offers_this_machine_its_own() {
    let directory = TempDir::new().unwrap();
    let images = directory.path().join("images");
    let for_platform = |architecture: &str| {
        let layer = Tar::default().file("disk/a", architecture.as_bytes()).end();
        let layer = blob(&images, "application/vnd.oci.image.layer.v1.tar", &layer);
        let mut manifest = manifest(&images, &[layer]);
        manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
        manifest
    };
    let point_to = |manifests: &[serde_json::Value]| {
        let text = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        let mut index_of = blob(
            &images,
            "application/vnd.oci.image.index.v1+json",
            text.as_bytes(),
        );
        index_of["annotations"] = json!({ "io.containerd.image.name": NAME });
        index(&images, &[index_of]);
    };
    let store = store(directory.path());

    point_to(&[for_platform("arm64"), for_platform("amd64")]);
    let path = store.container_disk(&disk(NAME, None)).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"amd64");

    point_to(&[for_platform("arm64"), for_platform("s390x")]);
    let error = complain(directory.path(), store.container_disk(&disk(NAME, None)));
    assert!(
        error.ends_with("has nothing for linux/amd64; it has linux/arm64, linux/s390x"),
        "{error}"
    );
}

/// A docker archive as old `docker save` writes it: the second layer is a link to the first.
fn docker_archive(layer: &[u8], diff_id: &str) -> Vec<u8> {
    let config = json!({ "rootfs": { "type": "layers", "diff_ids": [diff_id, diff_id] } });
    let manifest = json!([{
        "Config": "config.json",
        "RepoTags": [NAME],
        "Layers": ["1/layer.tar", "2/layer.tar"],
    }]);
    Tar::default()
        .directory("1/")
        .file("1/layer.tar", layer)
        .entry(b'2', b"2/layer.tar", b"../1/layer.tar", b"")
        .file("config.json", config.to_string().as_bytes())
        .file("manifest.json", manifest.to_string().as_bytes())
        .end()
}

#[test]
fn docker_archives_are_read_in_place() {
    let directory = TempDir::new().unwrap();
    let images = directory.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::write(images.join("notes.txt"), "no image").unwrap();
    let layer = Tar::default().file("disk/a", b"x").end();
    let archive = docker_archive(&layer, &sha256(&layer));

    fs::write(images.join("saved.tar"), &archive).unwrap();
    let path = store(directory.path())
        .container_disk(&disk(NAME, None))
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), b"x");

    // Compressed layers are promised by what they unpack to.
    let other = Tar::default().file("disk/a", b"y").end();
    fs::write(
        images.join("saved.tar"),
        docker_archive(&gzip(&other), &sha256(&other)),
    )
    .unwrap();
    let path = store(directory.path())
        .container_disk(&disk(NAME, None))
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), b"y");

    fs::write(
        images.join("saved.tar"),
        docker_archive(&layer, &sha256(b"else")),
    )
    .unwrap();
    let error = complain(
        directory.path(),
        store(directory.path()).container_disk(&disk(NAME, None)),
    );
    assert!(error.contains("cannot read layer 2/layer.tar"), "{error}");

    fs::write(images.join("saved.tar"), &archive[..700]).unwrap();
    let error = complain(
        directory.path(),
        store(directory.path()).container_disk(&disk(NAME, None)),
    );
    assert!(error.contains("DIR/images/saved.tar"), "{error}");

    // The archive itself may be what --images names.
    fs::write(images.join("saved.tar"), &archive).unwrap();
    let only = Store::new(
        directory.path().join("cache"),
        Some(images.join("saved.tar")),
        None,
    );
    only.container_disk(&disk(NAME, None)).unwrap();
}

#[test]
fn an_archive_of_a_layout_is_read_in_place() {
    let directory = TempDir::new().unwrap();
    let unpacked = directory.path().join("unpacked");
    let layer = Tar::default().file("disk/a", b"x").end();
    layout(&unpacked, NAME, &[gzip(&layer)]);
    let images = directory.path().join("images");
    fs::create_dir(&images).unwrap();
    let archive = fs::File::create(images.join("oci.tar")).unwrap();
    tar::Builder::new(archive)
        .append_dir_all(".", &unpacked)
        .unwrap();
    let path = store(directory.path())
        .container_disk(&disk(NAME, None))
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), b"x");
}

#[test]
fn a_pull_that_fails_says_why_and_what_is_there() {
    let directory = TempDir::new().unwrap();
    let images = directory.path().join("images");
    layout(&images, "other:1", &[Tar::default().end()]);
    let mut disk = disk(NAME, None);
    disk.image_pull_policy = None;
    for (program, reason) in [
        (
            "/nowhere/pull",
            "cannot run /nowhere/pull: No such file or directory (os error 2)",
        ),
        ("false", "false ended with exit status: 1"),
    ] {
        let puller = Puller {
            program: program.into(),
            insecure_registries: Vec::new(),
        };
        let cache = directory.path().join("cache");
        let store = Store::new(cache, Some(images.clone()), Some(puller));
        assert_eq!(
            complain(directory.path(), store.container_disk(&disk)),
            format!("cannot pull image {NAME}: {reason} (no such image is here among other:1)")
        );
    }
}

#[test]
fn names_and_paths_that_mean_nothing_are_refused() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("images")).unwrap();
    let complain = |image, path| {
        complain(
            directory.path(),
            store(directory.path()).container_disk(&disk(image, path)),
        )
    };
    assert_eq!(
        complain("Not An Image", None),
        "\"Not An Image\" is not an image name (expected like registry/name:tag): \
         invalid reference format"
    );
    assert_eq!(
        complain(NAME, Some("/disk/../../etc/shadow")),
        format!(
            "path \"/disk/../../etc/shadow\" in image {NAME}: must name a file, without \"..\""
        )
    );
    assert_eq!(
        complain(NAME, None),
        format!(
            "no image {NAME} is here; give --images a directory that holds it, or allow to pull it"
        )
    );
    let store = Store::new(
        directory.path().join("cache"),
        Some("/nowhere".into()),
        None,
    );
    let error = super::tests::complain(directory.path(), store.container_disk(&disk(NAME, None)));
    assert_eq!(
        error,
        "cannot read /nowhere: No such file or directory (os error 2)"
    );
}

#[test]
fn a_full_cache_is_said_so() {
    // /dev/full would need a device as a directory; a file in the way fails at the same place.
    let directory = TempDir::new().unwrap();
    let layer = Tar::default().file("disk/a", b"x").end();
    layout(&directory.path().join("images"), NAME, &[layer]);
    fs::write(directory.path().join("cache"), "").unwrap();
    let error = complain(
        directory.path(),
        store(directory.path()).container_disk(&disk(NAME, None)),
    );
    assert!(
        error.starts_with("cannot write DIR/cache/files/sha256-"),
        "{error}"
    );
    assert!(error.contains("has space left"), "{error}");
}

#[test]
fn tags_decide_when_to_pull() {
    let cases = [
        ("a", PullPolicy::Always),
        ("a:latest", PullPolicy::Always),
        ("a:1", PullPolicy::IfNotPresent),
        (&format!("a@{}", sha256(b"")), PullPolicy::IfNotPresent),
        (
            &format!("a:latest@{}", sha256(b"")),
            PullPolicy::IfNotPresent,
        ),
    ];
    for (name, policy) in cases {
        let reference = manifest::parse_reference(name).unwrap();
        assert_eq!(default_policy(&reference), policy, "{name}");
    }
}
