//! From images on disk to files in the cache.

mod fixture;

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::digest::Digest;
use super::*;
use fixture::{Tar, blob, gzip, index, layout, manifest, sha256, zstd};

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
fn takes_the_disk_out_of_every_kind_of_layer() {
    let plain = Tar::default()
        .directory("disk/")
        .file("disk/a.img", b"content")
        .end();
    for layer in [
        plain.clone(),
        gzip(&plain),
        zstd(&plain),
        [gzip(&plain), gzip(b"")].concat(),
    ] {
        let (_directory, result) = extract(&[layer], None);
        let path = result.unwrap();
        assert!(path.ends_with("rootfs/disk/a.img"), "{}", path.display());
        assert_eq!(fs::read(&path).unwrap(), b"content");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o444
        );
    }
}

#[test]
fn reads_the_headers_that_builders_write() {
    let long = format!("disk/{}.img", "n".repeat(200));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "absolute",
            Tar::default().file("/disk/a", b"x").end(),
            "/disk/a",
        ),
        (
            "GNU long name",
            {
                let long = format!("{long}\0");
                let tar = Tar::default().entry(b'L', b"././@LongLink", b"", long.as_bytes());
                tar.file("disk/cut", b"x").end()
            },
            &long,
        ),
        (
            "PAX path",
            Tar::default()
                .pax("path", &long)
                .file("disk/cut", b"x")
                .end(),
            &long,
        ),
        (
            "PAX size",
            {
                let tar = Tar::default().pax("size", "1").promising("disk/a", 0);
                tar.raw(b"x").end()
            },
            "disk/a",
        ),
        (
            "no end blocks",
            Tar::default().file("disk/a", b"x").unended(),
            "disk/a",
        ),
        (
            "old type",
            Tar::default().entry(0, b"disk/a", b"", b"x").end(),
            "disk/a",
        ),
        (
            "hard link",
            {
                let tar = Tar::default().file("img/real", b"x");
                tar.entry(b'1', b"disk/a", b"img/real", b"").end()
            },
            "disk/a",
        ),
    ];
    for (name, layer, path) in cases {
        for path in [Some(path), None] {
            let (directory, result) = extract(std::slice::from_ref(&layer), path);
            let file = result.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(fs::read(file).unwrap(), b"x", "{name}");
            drop(directory);
        }
    }
}

#[test]
fn hostile_and_broken_layers_are_one_clear_error() {
    let file = |name: &str| Tar::default().file(name, b"x");
    let whole = gzip(&file("disk/a").end());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Tar::default().end(), "holds no disk below /disk"),
        (
            file("disk/a").file("disk/b", b"y").end(),
            "holds several disks (/disk/a, /disk/b); name one by containerDisk.path",
        ),
        (
            file("disk/../../../etc/passwd").end(),
            "it holds a file named \"disk/../../../etc/passwd\"",
        ),
        (
            Tar::default()
                .entry(b'2', b"disk/a", b"/etc/shadow", b"")
                .end(),
            "/disk/a of image registry.example/disks/demo:1.0 is a symbolic link",
        ),
        (
            Tar::default()
                .entry(b'2', b"disk", b"/etc", b"")
                .file("disk/a", b"x")
                .end(),
            "is a symbolic link",
        ),
        (
            Tar::default()
                .entry(b'1', b"disk/a", b"../../etc/shadow", b"")
                .end(),
            "is a hard link",
        ),
        (
            Tar::default().entry(b'1', b"disk/a", b"disk/a", b"").end(),
            "holds no disk",
        ),
        (
            Tar::default().entry(b'3', b"disk/a", b"", b"").end(),
            "is a device",
        ),
        (
            Tar::default().entry(b'S', b"disk/a", b"", b"").end(),
            "without --sparse",
        ),
        (
            Tar::default()
                .pax("GNU.sparse.major", "1")
                .file("disk/a", b"x")
                .end(),
            "without --sparse",
        ),
        (
            Tar::default().promising("disk/a", 1 << 60).raw(b"x").end(),
            "claims 1152921504606846976 bytes",
        ),
        (
            Tar::default().promising("disk/a", 1 << 40).raw(b"x").end(),
            "truncated",
        ),
        (
            Tar::default()
                .promising("etc/a", u64::MAX >> 1)
                .raw(b"x")
                .end(),
            "truncated",
        ),
        (
            {
                let mut tar = Tar::default();
                tar.header(b'L', b"././@LongLink", b"", 1 << 40);
                tar.end()
            },
            "an entry's name is longer than 1 MiB",
        ),
        (
            Tar::default()
                .entry(b'x', b"pax", b"", b"99 path=x\n")
                .end(),
            "a PAX header is damaged",
        ),
        (b"no tar at all".repeat(50), "it is no tar archive"),
        (
            whole[..whole.len() - 9].to_vec(),
            "cannot read layer blobs/sha256/",
        ),
        (
            zstd(&file("disk/a").end())[..20].to_vec(),
            "cannot read layer blobs/sha256/",
        ),
        (
            [&whole[..], b"garbage"].concat(),
            "cannot read layer blobs/sha256/",
        ),
        (Vec::new(), "holds no disk"),
    ];
    for (layer, complaint) in cases {
        let (directory, result) = extract(&[layer], None);
        let error = complain(directory.path(), result);
        assert!(
            error.contains(complaint),
            "{error}\nshould say: {complaint}"
        );
        assert!(error.contains(NAME), "names no image: {error}");
        assert!(!error.contains('\n'), "{error}");
        let corner = fs::read_dir(directory.path().join("cache/files"))
            .unwrap()
            .next()
            .unwrap();
        let left: Vec<_> = fs::read_dir(corner.unwrap().path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the lock stays: {left:?}");
    }
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
    assert!(error.contains("among other:1; give --images"), "{error}");
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
    assert!(error.contains("--cache names another directory"), "{error}");
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

proptest! {
    /// No bytes make the reader panic, and whatever it reports lies within what it was given.
    #[test]
    fn any_bytes_are_a_tar_or_an_error(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2048),
        valid in 0..3_usize,
        size in any::<u64>(),
    ) {
        let mut tar = Tar::default();
        for _ in 0..valid {
            tar = tar.promising("disk/a", size >> 1);
        }
        let mut stream = tar.unended();
        stream.append(&mut bytes);
        let mut entries = tarball::Tarball::new(&stream[..]);
        while let Ok(Some(entry)) = entries.next_entry() {
            prop_assert!(entry.offset <= stream.len() as u64);
        }
    }
}
