// SPDX-License-Identifier: GPL-2.0

//! Images that are damaged: each field, each byte, each length.

use composefs_old_image::Error;
use composefs_old_image_tests::check::checked;
use composefs_old_image_tests::check::dump;
use composefs_old_image_tests::mutate;
use composefs_old_image_tests::mutate::Random;
use composefs_old_image_tests::samples;
use composefs_old_image_tests::tree::Data;
use composefs_old_image_tests::tree::Inode;
use composefs_old_image_tests::tree::Tree;
use composefs_old_image_tests::writer::Written;
use composefs_old_image_tests::writer::write;
use rand::SeedableRng as _;

/// Much more than the dumps of the samples need.
const LIMIT: u64 = 1 << 20;

/// Fields that no reader uses.
const UNUSED: [&str; 5] = [
    "header unused",
    "ctime",
    "ctime_nsec",
    "inode unused",
    "dirent padding",
];

/// Every value of interest in every field: an error, or a dump that can be right.
#[test]
fn fields() {
    let image = write(&samples::small());
    let good = checked(&image.bytes, LIMIT).unwrap();
    let (mut refused, mut changed) = (0, 0);
    for field in &image.fields {
        let mut old = [0; 8];
        let size = field.size.min(8);
        old[..size].copy_from_slice(&image.bytes[field.at..field.at + size]);
        for value in mutate::values(u64::from_le_bytes(old), image.bytes.len()) {
            let bytes = image.with(*field, value);
            match checked(&bytes, LIMIT) {
                Err(error) => {
                    assert!(!UNUSED.contains(&field.name), "{field:?} {value}: {error}");
                    refused += 1;
                }
                Ok(text) if UNUSED.contains(&field.name) => assert_eq!(text, good, "{field:?}"),
                Ok(text) => changed += usize::from(text != good),
            }
        }
    }
    // Both must happen often, or nothing was tested.
    assert!(refused > 1000 && changed > 1000, "{refused} {changed}");
}

/// Every change of one byte by one bit.
#[test]
fn bits() {
    let image = write(&samples::small());
    for at in 0..image.bytes.len() {
        for bit in 0..8 {
            let mut bytes = image.bytes.clone();
            bytes[at] ^= 1 << bit;
            let _ = checked(&bytes, LIMIT);
        }
    }
}

/// An image that ends too early is never a tree with less in it.
#[test]
fn ends() {
    let image = write(&samples::small());
    for size in 0..image.bytes.len() {
        checked(&image.bytes[..size], LIMIT).unwrap_err();
    }
}

/// Several changes at once, the same in every run.
#[test]
fn changes() {
    let image = write(&samples::wide());
    let mut random = Random::seed_from_u64(1);
    for _ in 0..400 {
        let mut bytes = image.bytes.clone();
        for _ in 0..4 {
            mutate::mutate(&mut bytes, &mut random);
            let _ = checked(&bytes, LIMIT);
        }
    }
}

/// The error of an image with another value in a field.
fn error(image: &Written, name: &str, index: usize, value: u64) -> (String, u64) {
    let field = image.field(name, index);
    let error = checked(&image.with(field, value), LIMIT).unwrap_err();
    assert!(!error.advice().is_empty());
    (error.to_string(), field.at as u64)
}

/// What is said: where it is, of which inode, and what is wrong.
#[test]
fn errors_name_the_place() {
    let image = write(&samples::tiny());
    let size = image.bytes.len() as u64;
    for (name, index, value, inode, what) in [
        ("mode", 1, 0o644, 1, "its mode has no known type"),
        (
            "mode",
            0,
            0o100644,
            0,
            "it is empty, but has the path of an object",
        ),
        ("nlink", 2, 0, 2, "its link count is 0"),
        (
            "mtime_nsec",
            1,
            1_000_000_000,
            1,
            "its nanoseconds are a second or more",
        ),
        (
            "size",
            1,
            0,
            1,
            "it is empty, but has the path of an object",
        ),
        (
            "data length",
            1,
            0,
            1,
            "it is not empty, but has no path of an object",
        ),
        (
            "data length",
            2,
            0,
            2,
            "it is a symbolic link without a target",
        ),
        ("data offset", 1, size, 1, "its data is not in the image"),
        (
            "xattrs length",
            1,
            size,
            1,
            "its xattrs are not in the image",
        ),
        (
            "digest length",
            1,
            size,
            1,
            "its digest is not in the image",
        ),
        ("digest length", 1, 31, 1, "its digest has not 32 bytes"),
        (
            "digest length",
            2,
            32,
            2,
            "it has a digest, but is not a regular file",
        ),
        (
            "dirent count",
            0,
            7,
            0,
            "directory: it ends before its last entry",
        ),
        (
            "dirent inode",
            0,
            0,
            0,
            "directory entry: its inode is of another type",
        ),
        (
            "dirent inode",
            1,
            3,
            0,
            "directory entry: its inode is not in the table of inodes",
        ),
        (
            "dirent type",
            0,
            3,
            0,
            "directory entry: its type is not known",
        ),
        (
            "dirent type",
            1,
            4,
            0,
            "directory entry: its inode is of another type",
        ),
        (
            "name offset",
            1,
            5,
            0,
            "directory entry: its name is not in the directory",
        ),
        (
            "name offset",
            1,
            0,
            0,
            "directory entry: its name does not follow the one before",
        ),
        ("name length", 1, 0, 0, "directory entry: its name is empty"),
        (
            "name",
            0,
            0x2f2f_2f2f,
            0,
            "directory entry: its name has a slash or a NUL in it",
        ),
        (
            "name",
            1,
            0,
            0,
            "directory entry: its name has a slash or a NUL in it",
        ),
        ("path", 0, 0x61, 1, "its target or path has a NUL in it"),
    ] {
        let (text, at) = error(&image, name, index, value);
        assert!(
            text.ends_with(&format!(": inode {inode}: {what}")),
            "{name}: {text}"
        );
        let told: u64 = text.split([' ', ':']).nth(2).unwrap().parse().unwrap();
        match name {
            // The reference, the entry or what it leads to.
            "data length" | "xattrs length" | "digest length" => {
                assert!(told <= at && at - told <= 12, "{name}: {text}");
            }
            "dirent count" | "dirent type" | "name offset" | "name length" | "name"
            | "dirent inode" | "size" => assert!(told > 0),
            "mode" if index == 0 => assert!(told > at),
            _ => assert_eq!(told, at, "{name}: {text}"),
        }
    }
    let image = write(&samples::small());
    for (name, index, value, what) in [
        (
            "xattr count",
            1,
            900,
            "xattrs: they end before the last one",
        ),
        (
            "xattr value length",
            2,
            0,
            "xattrs: there are bytes behind the last one",
        ),
        (
            "xattr name length",
            1,
            0,
            "xattr: its name has not 1 to 255 bytes",
        ),
        (
            "xattr value length",
            1,
            0xffff,
            "xattrs: they end before the last one",
        ),
        ("xattr name", 1, 0, "xattr: its name has a NUL in it"),
    ] {
        let (text, _) = error(&image, name, index, value);
        assert!(text.ends_with(what), "{name}: {text}");
    }
}

/// Files that are no such image.
#[test]
fn other_files() {
    let image = write(&samples::tiny());
    let refused = |bytes: &[u8]| checked(bytes, LIMIT).unwrap_err();
    let mut todays = vec![0; 4096];
    todays[..8].copy_from_slice(&[0x9a, 0x62, 0x78, 0xd0, 1, 0, 0, 0]);
    assert!(matches!(refused(&todays), Error::Todays));
    assert!(matches!(refused(b""), Error::NotAnImage));
    assert!(matches!(refused(&[0; 4096]), Error::NotAnImage));
    let version = image.with(image.field("version", 0), 2);
    assert!(matches!(refused(&version), Error::Version(2)));
    let cut = refused(&image.bytes[..100]).to_string();
    assert_eq!(cut, "at byte 100: header: the image ends in it");
}

#[test]
fn a_directory_that_leads_to_itself() {
    let mut tree = samples::tiny();
    let sub = tree.add(0, "sub", Inode::directory());
    for (name, number) in [("self", sub), ("root", 0)] {
        let mut tree = tree.clone();
        tree.link(sub, name, number);
        let error = checked(&write(&tree).bytes, LIMIT).unwrap_err();
        let what = "inode 3: directory entry: its directory is also somewhere else";
        assert!(error.to_string().ends_with(what), "{error}");
    }
}

/// Many directories with the same entries, as no writer makes them: the square of what the image
/// has. The limit ends it.
#[test]
fn shared_entries() {
    const FILES: usize = 200;
    let mut tree = Tree {
        inodes: vec![Inode::directory()],
    };
    tree.inodes[0].nlink = 1;
    let files = tree.add(0, "0", Inode::directory());
    for number in 0..FILES {
        tree.add(files, &format!("file{number}"), Inode::regular(0, ""));
    }
    for number in 1..FILES {
        tree.add(0, &format!("{number}"), Inode::directory());
    }
    let mut image = write(&tree);
    for name in ["data offset", "data length"] {
        let from = image.field(name, files as usize);
        for index in FILES + 2..tree.inodes.len() {
            let to = image.field(name, index).at;
            image.bytes.copy_within(from.at..from.at + from.size, to);
        }
    }
    let error = checked(&image.bytes, LIMIT).unwrap_err();
    assert!(matches!(error, Error::TooLong(LIMIT)), "{error}");
    let text = checked(&image.bytes, u64::MAX).unwrap();
    assert_eq!(text.lines().count(), 1 + FILES + FILES * FILES);
}

#[test]
fn a_path_that_is_too_long() {
    let mut tree = samples::tiny();
    let mut directory = 0;
    let name = "n".repeat(255);
    for _ in 0..15 {
        directory = tree.add(directory, &name, Inode::directory());
    }
    tree.add(directory, &name, Inode::directory());
    let error = checked(&write(&tree).bytes, LIMIT).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("its path is longer than 4095 bytes")
    );
    // 15 names of 256 bytes with their slashes, and this one.
    let Data::Entries(entries) = &mut tree.inodes[directory as usize].data else {
        panic!();
    };
    let last = entries.remove(name.as_bytes()).unwrap();
    tree.link(directory, &"n".repeat(254), last);
    checked(&write(&tree).bytes, LIMIT).unwrap();
}

/// Small files that ask for long dumps: an error, and no time or memory for the rest.
#[test]
fn long_dumps() {
    let mut tree = Tree {
        inodes: vec![Inode::directory()],
    };
    tree.inodes[0].nlink = 1;
    for number in 0..100 {
        let file = Inode::regular(1, "x").with_xattr("user.shared", &[b'v'; 60_000]);
        tree.add(0, &format!("{number}"), file);
    }
    let image = write(&tree);
    assert!(image.bytes.len() < 200_000);
    let error = dump(&image.bytes, LIMIT).unwrap_err();
    assert!(matches!(error, Error::TooLong(LIMIT)));
    let whole = dump(&image.bytes, u64::MAX).unwrap();
    assert!(whole.len() > 6_000_000);
    dump(&image.bytes, whole.len() as u64).unwrap();
    dump(&image.bytes, whole.len() as u64 - 1).unwrap_err();
}
