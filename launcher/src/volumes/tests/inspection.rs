//! Images as QEMU makes them, cut short, and with headers that lie.

use std::error::Error as _;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::VolumeError;
use super::super::inspect::{self, Defect, Inspected, inspect, inspect_raw};
use super::{MIB, run};
use crate::convert::DiskFormat;

/// An image made by `qemu-img create` with these arguments, and what is found wrong with it.
fn judge(arguments: &str) -> Result<Inspected, String> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("image");
    let mut command = vec!["create", "-q"];
    let place = directory.path().to_str().unwrap();
    let arguments: Vec<String> = arguments
        .split_whitespace()
        .map(|it| it.replace("DIR", place))
        .collect();
    command.extend(arguments.iter().map(String::as_str));
    let size = command.pop().unwrap();
    fs::write(directory.path().join("other"), [0; 65536]).unwrap();
    run(
        "qemu-img",
        &[&command[..], &[path.to_str().unwrap(), size]].concat(),
    );
    inspect::file("v", &path).map_err(|error| error.source().unwrap().to_string())
}

#[test]
fn images_that_qemu_makes_are_told_apart() {
    let qcow2 = |virtual_size| {
        Ok(Inspected {
            format: DiskFormat::Qcow2,
            virtual_size,
        })
    };
    let raw = |virtual_size| {
        Ok(Inspected {
            format: DiskFormat::Raw,
            virtual_size,
        })
    };
    let convert = "convert it with qemu-img convert -O qcow2";
    let whole = "make it whole with qemu-img convert -O qcow2";
    let cases = [
        ("-f raw 1M", raw(MIB)),
        ("-f qcow2 1M", qcow2(MIB)),
        ("-f qcow2 -o compat=0.10 1M", qcow2(MIB)),
        (
            "-f qcow2 -o extended_l2=on,cluster_size=128k 1G",
            qcow2(1 << 30),
        ),
        ("-f qcow2 -o cluster_size=512 1G", qcow2(1 << 30)),
        ("-f qcow2 -o cluster_size=2M 10T", qcow2(10 << 40)),
        ("-f qcow2 -o preallocation=falloc 8M", qcow2(8 * MIB)),
        (
            "-f qcow2 -o lazy_refcounts=on,compression_type=zstd 1M",
            qcow2(MIB),
        ),
        (
            "-f qcow2 -F raw -b DIR/other 1M",
            Err(format!("it needs a backing file; {whole}")),
        ),
        (
            "-f qcow2 -o data_file=DIR/data 1M",
            Err(format!("it needs an external data file; {whole}")),
        ),
        ("-f vmdk 1M", Err(format!("it is a VMDK image; {convert}"))),
        ("-f vdi 1M", Err(format!("it is a VDI image; {convert}"))),
        ("-f vhdx 1M", Err(format!("it is a VHDX image; {convert}"))),
        ("-f vpc 1M", Err(format!("it is a VHD image; {convert}"))),
        ("-f qed 1M", Err(format!("it is a QED image; {convert}"))),
        (
            "-f parallels 1M",
            Err(format!("it is a Parallels image; {convert}")),
        ),
    ];
    for (arguments, verdict) in cases {
        assert_eq!(judge(arguments), verdict, "{arguments}");
    }
}

/// A sound qcow2 image with data, plain or compressed.
fn qcow2(compress: bool) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let (content, image) = (
        directory.path().join("content"),
        directory.path().join("image"),
    );
    let noise: Vec<u8> = (0..4 * MIB as u32)
        .map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::write(&content, noise).unwrap();
    let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2"];
    arguments.extend(compress.then_some("-c"));
    arguments.extend([content.to_str().unwrap(), image.to_str().unwrap()]);
    run("qemu-img", &arguments);
    (directory, image)
}

#[test]
fn truncated_images_are_refused_wherever_they_end() {
    for compress in [false, true] {
        let (_directory, image) = qcow2(compress);
        assert_eq!(inspect::file("v", &image).unwrap().virtual_size, 4 * MIB);
        let length = fs::metadata(&image).unwrap().len();
        let file = fs::File::options().write(true).open(&image).unwrap();
        for end in [
            length - 128 * 1024,
            length / 2,
            300_000,
            200_000,
            131_072,
            1000,
            512,
            80,
        ] {
            file.set_len(end).unwrap();
            let error = inspect::file("v", &image).unwrap_err();
            let VolumeError::Defect { source, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(source, Defect::Truncated, "{end} of {length}");
        }
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let (_directory, image) = qcow2(false);
    let good = fs::read(&image).unwrap();
    let cases: [(usize, &[u8], Defect); 15] = [
        (4, &4_u32.to_be_bytes(), Defect::Version(4)),
        (8, &1_u64.to_be_bytes(), Defect::BackingFile),
        (20, &8_u32.to_be_bytes(), Defect::Header),
        (20, &64_u32.to_be_bytes(), Defect::Header),
        (24, &0_u64.to_be_bytes(), Defect::Size(0)),
        (24, &u64::MAX.to_be_bytes(), Defect::Size(u64::MAX)),
        (24, &(1_u64 << 40).to_be_bytes(), Defect::Header),
        (32, &1_u32.to_be_bytes(), Defect::Encrypted),
        (36, &u32::MAX.to_be_bytes(), Defect::Header),
        (36, &(1_u32 << 22).to_be_bytes(), Defect::Truncated),
        (40, &(1_u64 << 62).to_be_bytes(), Defect::Truncated),
        (48, &u64::MAX.to_be_bytes(), Defect::Truncated),
        (56, &0_u32.to_be_bytes(), Defect::Header),
        (72, &2_u64.to_be_bytes(), Defect::Corrupt),
        (72, &(1_u64 << 63).to_be_bytes(), Defect::Features(1 << 63)),
    ];
    for (offset, bytes, defect) in cases {
        let mut image = good.clone();
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
        assert_eq!(
            inspect(&image[..512], image.len() as u64),
            Err(defect),
            "at {offset}"
        );
    }
}

#[test]
fn a_raw_disk_may_hold_what_its_guest_likes() {
    let head = |magic: &[u8]| [magic, &[0; 512][magic.len()..]].concat();
    let raw = Ok(Inspected {
        format: DiskFormat::Raw,
        virtual_size: MIB,
    });
    assert_eq!(inspect_raw(&head(b"LUKS\xba\xbe"), MIB), raw);
    assert_eq!(inspect_raw(&head(b"\x1f\x8b\x08"), MIB), raw);
    assert_eq!(inspect_raw(&head(b""), MIB), raw);
    assert_eq!(inspect_raw(&head(b"QFI\xfb"), MIB), Err(Defect::NotRaw));
    assert_eq!(
        inspect_raw(&head(b"KDMV"), MIB),
        Err(Defect::Foreign("VMDK"))
    );
    assert_eq!(inspect_raw(b"", 0), Err(Defect::Empty));
    assert_eq!(
        inspect(&head(b"\xfd7zXZ\0"), MIB),
        Err(Defect::Compressed("xz"))
    );
    assert_eq!(
        inspect(&head(b"LUKS\xba\xbe"), MIB),
        Err(Defect::Foreign("LUKS"))
    );
    assert_eq!(inspect(&head(b""), 65 << 40), Err(Defect::Size(65 << 40)));
}

proptest! {
    /// Whatever an image says, judging it neither panics nor reads what is not there.
    #[test]
    fn any_image_is_sound_or_refused(
        mut head in proptest::collection::vec(any::<u8>(), 0..512),
        is_qcow2 in any::<bool>(),
        version in 2..4_u8,
        cluster_bits in 0..30_u8,
        length in any::<u64>(),
    ) {
        if is_qcow2 && head.len() > 104 {
            head[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]);
            head[8..24].fill(0);
            head[23] = cluster_bits;
            head[32..36].fill(0);
            head[72..79].fill(0);
        }
        let _ = inspect_raw(&head, length);
        if let Ok(found) = inspect(&head, length) {
            prop_assert!(found.virtual_size % 512 == 0 && found.virtual_size > 0);
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("image");
            fs::write(&path, &head).unwrap();
            let _ = inspect::file("v", &path);
        }
    }
}
