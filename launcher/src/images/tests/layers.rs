//! Layers as tools write them, and as an attacker would.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::super::tarball;
use super::fixture::{Tar, gzip, zstd};
use super::{NAME, complain, extract};

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
