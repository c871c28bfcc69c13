// SPDX-License-Identifier: GPL-2.0

//! Each check of the parser alone: the values that are refused, with their messages, and the values
//! at the limit that are accepted.

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use composefs_image::{
    overlay, overlay::Escapes, Algorithm, Content, Corrupt, Digest, DiskInode, Error, FileType,
    Image, InodeLayout, PackedLayout, BLOCK_SIZE,
};

use support::memory::{Fault, Memory};
use support::model::{File, Kind, Model, EPOCH, EPOCH_NSEC};
use support::writer::{write, Options, Written};
use support::xattr;

fn file(kind: Kind) -> File {
    File {
        kind,
        perm: 0o644,
        uid: 1000,
        gid: 70000,
        mtime: EPOCH + 5,
        nsec: EPOCH_NSEC,
        xattrs: BTreeMap::new(),
    }
}

fn options() -> Options {
    Options {
        version: 1,
        filter: true,
        compact: true,
        share: true,
        absolute: false,
        inline_max: 2048,
        dirents_max: 340,
        gaps: vec![0],
    }
}

/// A directory with these files, named `0`, `1`, ...
fn tree(kinds: Vec<Kind>) -> Model {
    let mut files: Vec<File> = kinds.into_iter().map(file).collect();
    let entries = (0..files.len())
        .map(|number| (number.to_string().into_bytes(), number + 1))
        .collect();
    files.insert(0, file(Kind::Directory(entries)));
    Model { files }
}

fn one(kind: Kind) -> Written {
    write(&tree(vec![kind]), &options())
}

fn open(bytes: &[u8]) -> Result<Image<Memory>, Error<Fault>> {
    Image::open(Memory::new(bytes.to_vec()))
}

/// Returns the message of an error, or "accepted".
#[track_caller]
fn what<T>(result: Result<T, Error<Fault>>) -> &'static str {
    match result {
        Ok(_) => "accepted",
        Err(Error::Corrupt(Corrupt { what, .. })) => what,
        Err(Error::Source(Fault)) => panic!("a fault"),
    }
}

/// Opens an image with `patch` at `at`.
fn open_patched(at: usize, patch: &[u8]) -> &'static str {
    let mut bytes = one(Kind::Fifo).bytes;
    bytes[at..at + patch.len()].copy_from_slice(patch);
    what(open(&bytes))
}

/// What is said of an image of the first patch series.
const FIRST_FORMAT: &str =
    "has the format of early 2023: composefs-old-image(1) turns it into today's";

/// Such an image may be smaller than any of today's.
#[test]
fn first_format() {
    let mut bytes = vec![0; 224];
    bytes[..8].copy_from_slice(&[1, 0, 0, 0, 0x9a, 0x62, 0x78, 0xc0]);
    for (size, words) in [
        (224, FIRST_FORMAT),
        (32, FIRST_FORMAT),
        (31, "image is too small for a superblock"),
        (0, "image is too small for a superblock"),
    ] {
        assert_eq!(what(open(&bytes[..size])), words, "{size}");
    }
}

#[test]
fn superblock() {
    for (at, patch, words) in [
        (0, &[0][..], "composefs magic is wrong"),
        (4, &[2], "composefs header: version is not supported"),
        (4, &[0x9a, 0x62, 0x78, 0xc0], FIRST_FORMAT),
        (8, &[1], "accepted"),
        (8, &[2], "composefs header: flags are not supported"),
        (12, &[0], "accepted"),
        (12, &[2], "accepted"),
        (
            12,
            &[3],
            "composefs header: composefs_version is not supported",
        ),
        (1024, &[0], "EROFS magic is wrong"),
        (1032, &[0], "accepted"),
        (
            1032,
            &[1],
            "superblock: feature_compat has unsupported bits",
        ),
        (
            1032,
            &[8],
            "superblock: feature_compat has unsupported bits",
        ),
        (1036, &[9], "superblock: blkszbits is not 12"),
        (1037, &[1], "superblock: sb_extslots is not 0"),
        (1056, &999_999_999u32.to_le_bytes(), "accepted"),
        (
            1056,
            &1_000_000_000u32.to_le_bytes(),
            "superblock: fixed_nsec is a second or more",
        ),
        (1060, &[2], "superblock: image is shorter than blocks says"),
        (1060, &[0], "accepted"),
        (1064, &[1], "superblock: meta_blkaddr is not 0"),
        (1068, &[1], "accepted"),
        (
            1068,
            &[2],
            "superblock: xattr_blkaddr is beyond the end of the image",
        ),
        (1104, &[4], "accepted"),
        (
            1104,
            &[1],
            "superblock: feature_incompat has unsupported bits",
        ),
        (
            1104,
            &[0x80],
            "superblock: feature_incompat has unsupported bits",
        ),
        (1108, &[1], "superblock: available_compr_algs is not 0"),
        (1110, &[1], "superblock: extra_devices is not 0"),
        (1114, &[1], "superblock: dirblkbits is not 0"),
        (1115, &[1], "superblock: xattr_prefix_count is not 0"),
        (1120, &[1], "superblock: packed_nid is not 0"),
        (1038, &[0, 0], "inode number lies in the superblock"),
        (1038, &[35, 0], "inode number lies in the superblock"),
        (1038, &[0xff, 0xff], "reference beyond the end of the image"),
    ] {
        assert_eq!(open_patched(at, patch), words, "{patch:?} at {at}");
    }
    let written = one(Kind::Fifo);
    // The nid of the root is that of another file.
    let fifo = (written.nids[1] as u16).to_le_bytes();
    assert_eq!(open_patched(1038, &fifo), "root inode is not a directory");
    assert_eq!(what(open(&[])), "image is too small for a superblock");
    let words = what(open(&written.bytes[..1151]));
    assert_eq!(words, "image is too small for a superblock");

    let mut bytes = written.bytes;
    bytes[8] = 1;
    bytes[1072..1088].copy_from_slice(b"0123456789abcdef");
    let image = open(&bytes).unwrap();
    let sb = image.superblock();
    assert!(sb.has_acl);
    assert_eq!(&sb.uuid, b"0123456789abcdef");
    assert_eq!((sb.inos, sb.blocks, sb.composefs_version), (2, 1, 1));
    assert_eq!(image.source().bytes, bytes);
}

/// The inode of the only file, with `patch` at `at` of it.
fn inode_patched(kind: Kind, at: usize, patch: &[u8]) -> Result<DiskInode, Error<Fault>> {
    let mut written = one(kind);
    let at = written.nids[1] as usize * 32 + at;
    written.bytes[at..at + patch.len()].copy_from_slice(patch);
    open(&written.bytes).unwrap().inode(written.nids[1])
}

#[test]
fn inode() {
    let link = || Kind::Symlink(b"target".to_vec());
    let folder = || Kind::Directory(BTreeMap::new());
    let bad = |kind, at, patch: &[u8]| what(inode_patched(kind, at, patch));
    // These inodes are extended, because the gid does not fit a compact one.
    assert_eq!(
        bad(link(), 0, &[0x15]),
        "inode: i_format has unsupported bits"
    );
    assert_eq!(
        bad(link(), 0, &[5, 1]),
        "inode: i_format has unsupported bits"
    );
    assert_eq!(bad(link(), 0, &[3]), "inode: data layout is not supported");
    assert_eq!(bad(link(), 0, &[7]), "inode: data layout is not supported");
    assert_eq!(
        bad(link(), 0, &[0xf]),
        "inode: data layout is not supported"
    );
    assert_eq!(bad(link(), 0, &[9]), "data is not in the image");
    assert_eq!(bad(folder(), 0, &[9]), "data is not in the image");
    assert_eq!(bad(Kind::Fifo, 0, &[9]), "accepted");
    assert_eq!(
        bad(link(), 2, &[0xff, 0xff]),
        "xattr area crosses the end of the image"
    );
    assert_eq!(bad(link(), 4, &[0, 0]), "inode: i_mode has no known type");
    assert_eq!(bad(link(), 5, &[0xf0]), "inode: i_mode has no known type");
    assert_eq!(bad(link(), 15, &[0x80]), "inode: i_size is negative");
    assert_eq!(bad(Kind::Sparse(i64::MAX as u64), 0, &[]), "accepted");
    assert_eq!(bad(link(), 8, &[0, 0]), "symlink is empty");
    assert_eq!(bad(link(), 8, &[0, 16]), "symlink is too long");
    assert_eq!(
        bad(folder(), 8, &[0, 0x20]),
        "data crosses the end of the image"
    );
    assert_eq!(bad(folder(), 8, &[0, 0]), "accepted");
    let second = 1_000_000_000u32.to_le_bytes();
    assert_eq!(
        bad(link(), 40, &second),
        "inode: i_mtime_nsec is a second or more"
    );
    assert_eq!(bad(link(), 44, &[0]), "inode: i_nlink is 0");
    // inode() does not check the data of a regular file: it may be in an object.
    assert_eq!(bad(Kind::Inline(vec![1; 10]), 8, &[0, 0, 0, 1]), "accepted");

    let inode = inode_patched(Kind::Block(0x1234_5678), 0, &[]).unwrap();
    assert_eq!((inode.uid, inode.gid, inode.nlink), (1000, 70000, 1));
    assert_eq!((inode.rdev, inode.mode), (0x1234_5678, 0o060644));
    assert_eq!((inode.mtime, inode.mtime_nsec), (EPOCH + 5, EPOCH_NSEC));
    assert!(!inode.is_whiteout() && !inode.layout.has_xattrs());
    assert!(inode_patched(Kind::Char(0), 0, &[]).unwrap().is_whiteout());
    assert!(!inode_patched(Kind::Block(0), 0, &[]).unwrap().is_whiteout());
    assert_eq!(inode_patched(Kind::Fifo, 16, &[1]).unwrap().rdev, 0);

    let image = open(&one(Kind::Fifo).bytes).unwrap();
    assert_eq!(what(image.inode(0)), "inode number lies in the superblock");
    assert_eq!(what(image.inode(35)), "inode number lies in the superblock");
    assert_eq!(
        what(image.inode(128)),
        "reference beyond the end of the image"
    );
    for nid in [u64::MAX, u64::MAX / 32 + 1, 1 << 63] {
        assert_eq!(what(image.inode(nid)), "inode number is out of range");
    }
    let at = match image.inode(u64::MAX / 32) {
        Err(Error::Corrupt(corrupt)) => corrupt.at,
        _ => panic!("accepted"),
    };
    assert_eq!(at, u64::MAX / 32 * 32);
}

#[test]
fn compact_time() {
    let mut tree = tree(vec![Kind::Fifo]);
    tree.files[1].gid = 0;
    let written = write(&tree, &options());
    let image = open(&written.bytes).unwrap();
    let inode = image.inode(written.nids[1]).unwrap();
    assert_eq!((inode.mtime, inode.mtime_nsec), (EPOCH + 5, EPOCH_NSEC));
    let mut bytes = written.bytes;
    bytes[1048..1056].copy_from_slice(&(i64::MAX - 4).to_le_bytes());
    let image = open(&bytes).unwrap();
    assert_eq!(
        what(image.inode(written.nids[1])),
        "inode: i_mtime overflows"
    );
}

#[test]
fn inode_at_the_end() {
    // An extended inode crosses the start of the last block, or ends at the end of the image.
    let mut written = one(Kind::Fifo);
    let at = written.nids[1] as usize * 32;
    let inode = written.bytes[at..at + 64].to_vec();
    let mut image = written.bytes.clone();
    image.resize(4096 + 32, 0);
    image[4064..4128].copy_from_slice(&inode);
    assert!(open(&image).unwrap().inode(127).is_ok());
    image.pop();
    let words = what(open(&image).unwrap().inode(127));
    assert_eq!(words, "reference beyond the end of the image");
    // A compact inode does not fit, either.
    written.bytes.truncate(at + 31);
    written.bytes[1060] = 0;
    let words = what(open(&written.bytes).unwrap().inode(written.nids[1]));
    assert_eq!(words, "inode crosses the end of the image");
}

/// An image whose root directory has these raw entries and names in the second block.
fn directory(entries: &[(u16, u8)], names: &[u8], size: usize) -> (Image<Memory>, InodeLayout) {
    let mut options = options();
    options.inline_max = 0;
    let written = write(&tree(vec![]), &options);
    let mut bytes = written.bytes;
    assert_eq!(bytes.len(), 8192);
    bytes[4096..].fill(0);
    for (number, (nameoff, file_type)) in entries.iter().enumerate() {
        let at = 4096 + number * 12;
        bytes[at..at + 8].copy_from_slice(&(number as u64 + 100).to_le_bytes());
        bytes[at + 8..at + 10].copy_from_slice(&nameoff.to_le_bytes());
        bytes[at + 10] = *file_type;
    }
    let at = 4096 + entries.len() * 12;
    bytes[at..at + names.len()].copy_from_slice(names);
    let at = written.nids[0] as usize * 32 + 8;
    bytes[at..at + 8].copy_from_slice(&(size as u64).to_le_bytes());
    let image = open(&bytes).unwrap();
    let layout = image.inode(written.nids[0]).unwrap().layout;
    (image, layout)
}

/// The names of a directory, the message, and the last cookie.
fn names(image: &Image<Memory>, layout: &InodeLayout) -> (Vec<Vec<u8>>, &'static str, u64) {
    let mut pos = 0;
    let mut names = vec![];
    let result = image.read_dir(layout, &mut pos, |dirent| {
        names.push(dirent.name.to_vec());
        ControlFlow::Continue(())
    });
    (names, what(result), pos)
}

#[test]
fn dirents() {
    let first = "dirent: first nameoff is invalid";
    let bad = "dirent: nameoff is invalid";
    let byte = "dirent: name has a NUL or a slash";
    for (entries, data, size, want) in [
        (
            &[(36, 1), (37, 1), (38, 1)][..],
            &b"abc"[..],
            39,
            (3, "accepted", 39),
        ),
        (
            &[(36, 1), (37, 1), (38, 1)],
            b"abc",
            4096,
            (3, "accepted", 4096),
        ),
        // The nameoff of the first entry: too short data, 0, not a multiple of 12, beyond the data.
        (&[(36, 1)], b"", 11, (0, first, 0)),
        (&[(0, 1)], b"abc", 39, (0, first, 0)),
        (&[(37, 1)], b"abc", 39, (0, first, 0)),
        (&[(48, 1)], b"abc", 39, (0, first, 0)),
        (&[(36, 1), (37, 1), (38, 1)], b"", 36, (0, bad, 0)),
        // The other nameoffs: empty name, out of order, inside of the entries, beyond the data.
        (&[(36, 1), (37, 1), (37, 1)], b"abc", 39, (1, bad, 12)),
        (&[(36, 1), (37, 1), (36, 1)], b"abc", 39, (1, bad, 12)),
        (&[(36, 1), (12, 1), (38, 1)], b"abc", 39, (0, bad, 0)),
        (&[(36, 1), (37, 1), (39, 1)], b"abc", 39, (2, bad, 24)),
        (&[(36, 1), (37, 1), (38, 1)], b"ab\0", 4096, (2, bad, 24)),
        (&[(36, 1), (37, 1), (4096, 1)], b"abc", 4096, (1, bad, 12)),
        // Bytes that a name cannot have.
        (&[(36, 1), (37, 1), (38, 1)], b"a/c", 39, (1, byte, 12)),
        (&[(36, 1), (37, 1), (38, 1)], b"a\0c", 39, (1, byte, 12)),
        (&[(36, 1), (37, 1), (38, 1)], b"ab/", 39, (2, byte, 24)),
        // A NUL and a slash behind the end of the last name.
        (
            &[(48, 1), (49, 1), (57, 1), (50, 1)],
            b"abbb\0bb/b",
            57,
            (1, byte, 12),
        ),
    ] {
        let (image, layout) = directory(entries, data, size);
        let seen = names(&image, &layout);
        let seen = (seen.0.len(), seen.1, seen.2);
        assert_eq!(seen, want, "{entries:?} {data:?} {size}");
        // A lookup checks less, but must not find an absent name.
        if want.1 == first {
            assert_eq!(what(image.lookup(&layout, b"a")), first);
        }
        assert!(!matches!(image.lookup(&layout, b"x"), Ok(Some(_))));
    }
    // The last name ends at a NUL, whatever follows.
    for data in [&b"abc\0d"[..], b"abc\0/", b"abc\0\0", b"abc"] {
        let (image, layout) = directory(&[(36, 1), (37, 1), (38, 1)], data, 36 + data.len());
        let (seen, words, _) = names(&image, &layout);
        assert_eq!(words, "accepted", "{data:?}");
        assert_eq!(seen, [b"a", b"b", b"c"], "{data:?}");
        assert!(matches!(image.lookup(&layout, b"c"), Ok(Some(_))));
    }
    // A nameoff inside of the entries is found when reading starts at that entry.
    let (image, layout) = directory(&[(36, 1), (12, 1), (38, 1)], b"abc", 39);
    let mut pos = 12;
    let result = image.read_dir(&layout, &mut pos, |_| ControlFlow::Continue(()));
    assert_eq!((what(result), pos), (bad, 12));
    assert_eq!(what(image.lookup(&layout, b"a")), bad);
    // Lengths: 255 and 256.
    for (len, want) in [(255, "accepted"), (256, bad)] {
        let (image, layout) = directory(&[(24, 1), (24 + len, 1)], &[b'n'; 512], 24 + 257);
        assert_eq!(names(&image, &layout).1, want);
        // As the last name, with and without a NUL behind it.
        let mut data = vec![b'n'; usize::from(len)];
        for size in [12 + data.len(), 4096] {
            let (image, layout) = directory(&[(12, 1)], &data, size);
            assert_eq!(names(&image, &layout).1, want);
        }
        data.push(0);
        let (image, layout) = directory(&[(12, 1)], &data, 4096);
        assert_eq!(names(&image, &layout).1, want);
    }
    // readdir reads only the inodes of character devices, and these must be valid.
    let (image, layout) = directory(&[(24, 2), (25, 3)], b"ab", 26);
    assert_eq!(names(&image, &layout).1, "accepted");
    let mut bytes = image.source().bytes.clone();
    bytes[4096 + 12 + 2] = 1;
    let image = open(&bytes).unwrap();
    let words = "reference beyond the end of the image";
    assert_eq!(names(&image, &layout), (vec![b"a".to_vec()], words, 12));
    assert_eq!(what(image.parent(&layout)), "directory has no entry '..'");
    let (image, layout) = directory(&[], b"", 0);
    assert_eq!(names(&image, &layout), (vec![], "accepted", 0));
    assert_eq!(image.lookup(&layout, b"a"), Ok(None));
    // An undefined file_type.
    let (image, layout) = directory(&[(12, 8)], b"a", 13);
    let found = image.lookup(&layout, b"a").unwrap().unwrap();
    assert_eq!((found.nid, found.file_type), (100, FileType::Unknown));
}

#[test]
fn inline_data() {
    let data: Vec<u8> = (0..4096).map(|n| (n % 251) as u8).collect();
    // A whole block may be inline if it is aligned to a block, as in erofs.
    let mut options = options();
    options.inline_max = 4096;
    let written = write(&tree(vec![Kind::Inline(data.clone())]), &options);
    let image = open(&written.bytes).unwrap();
    let layout = image.inode(written.nids[1]).unwrap().layout;
    let mut out = vec![0; 5000];
    assert_eq!(image.content(&layout), Ok(Content::Inline));
    assert_eq!(image.read(&layout, 0, &mut out), Ok(4096));
    assert_eq!(out[..4096], data);
    // Elsewhere, it crosses the end of a block.
    let other = InodeLayout::new(written.nids[0], 4096, layout.packed());
    let words = "inline data crosses a block";
    assert_eq!(what(image.content(&other)), words);
    assert_eq!(what(image.read(&other, 0, &mut out)), words);
    // Inline files that are too large, or that cross the end of the image.
    let layout = |size| InodeLayout::new(written.nids[1], size, layout.packed());
    assert_eq!(
        what(image.content(&layout(8193))),
        "inline file is too large"
    );
    assert_eq!(
        what(image.content(&layout(8192))),
        "data crosses the end of the image"
    );
    assert_eq!(
        what(image.content(&layout(u64::MAX))),
        "inline file is too large"
    );
    assert!(image.read(&layout(u64::MAX), 1 << 40, &mut out).is_err());
    // An InodeLayout that no inode of the image has.
    let empty = InodeLayout::new(u64::MAX, 0, PackedLayout::default());
    assert_eq!(image.read(&empty, 0, &mut out), Ok(0));
    assert_eq!(image.lookup(&empty, b"a"), Ok(None));
    assert_eq!(what(image.content(&empty)), "inode number is out of range");
}

/// Index and name, and value.
type Xattr<'a> = ((u8, &'a [u8]), &'a [u8]);

/// An inode with these raw xattrs, which are inline.
fn with_xattrs(xattrs: &[Xattr<'_>], kind: Kind) -> Written {
    let mut tree = tree(vec![kind]);
    tree.files[1].xattrs = xattrs
        .iter()
        .map(|((index, name), value)| ((*index, name.to_vec()), value.to_vec()))
        .collect();
    write(&tree, &options())
}

#[test]
fn xattr_areas() {
    let written = with_xattrs(&[((1, b"a"), b"1"), ((4, b"bc"), b"234")], Kind::Fifo);
    let area = written.nids[1] as usize * 32 + 64;
    let list = |bytes: &[u8]| {
        let image = open(bytes).unwrap();
        let layout = image.inode(written.nids[1]).unwrap().layout;
        let mut count = 0;
        let result = image.xattrs(&layout, |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        (count, what(result))
    };
    let patched = |at: usize, patch: &[u8]| {
        let mut bytes = written.bytes.clone();
        bytes[area + at..area + at + patch.len()].copy_from_slice(patch);
        list(&bytes)
    };
    let crosses = "xattr entry crosses the end of its area";
    assert_eq!(patched(0, &[]), (2, "accepted"));
    assert_eq!(
        patched(4, &[6]),
        (0, "xattr header: h_shared_count is too large")
    );
    // Inline entries read as ids.
    let beyond = "reference beyond the end of the image";
    assert_eq!(patched(4, &[5]), (0, beyond));
    // One id, of the last four bytes of the image: the entry is too short.
    let mut bytes = written.bytes.clone();
    let end = bytes.len();
    bytes[area - 62] = 2;
    bytes[area + 4] = 1;
    bytes[area + 12..area + 16].copy_from_slice(&(end as u32 / 4 - 1).to_le_bytes());
    assert_eq!(list(&bytes), (1, "accepted"));
    bytes[end - 4] = 1;
    let words = "shared xattr crosses the end of the image";
    assert_eq!(list(&bytes), (0, words));
    bytes[end - 4] = 0;
    bytes[end - 2] = 1;
    assert_eq!(list(&bytes), (0, words));
    assert_eq!(patched(12, &[255]), (0, crosses));
    assert_eq!(patched(14, &[255, 255]), (0, crosses));
    assert_eq!(patched(22, &[6]), (2, "accepted"));
    assert_eq!(patched(22, &[7]), (1, crosses));
    assert_eq!(patched(16, &[0]), (0, "xattr name has a NUL"));

    // A set bit of the filter hides an xattr, unless the superblock turns the filter off.
    let mut bytes = written.bytes.clone();
    bytes[area..area + 4].fill(0xff);
    let get = |bytes: &[u8]| {
        let image = open(bytes).unwrap();
        let layout = image.inode(written.nids[1]).unwrap().layout;
        assert!(layout.has_xattrs());
        let filter = image.xattr_filter(&layout).unwrap();
        (xattr(&image, &layout, 1, b"a", &mut []).unwrap(), filter.0)
    };
    assert_eq!(get(&bytes), (None, u32::MAX));
    bytes[1024 + 104] = 1;
    assert_eq!(get(&bytes), (Some(1), 0));
    bytes[1024 + 104] = 0;
    bytes[1032] = 2;
    assert_eq!(get(&bytes), (Some(1), 0));
}

#[test]
fn metacopy() {
    let digest = |len: u8, algorithm: u8| {
        let mut value = vec![0, len, 0, algorithm];
        value.resize(usize::from(len), 7);
        value
    };
    let sha256 = Digest::new(Algorithm::Sha256, &[7; 32]).unwrap();
    let sha512 = Digest::new(Algorithm::Sha512, &[7; 64]).unwrap();
    assert_eq!(Digest::new(Algorithm::Sha256, &[7; 64]), None);
    assert_eq!(
        (sha256.algorithm().as_raw(), sha512.algorithm().as_raw()),
        (1, 2)
    );
    let content = |value: &[u8]| {
        let xattrs = [
            ((4, &b"overlay.metacopy"[..]), value),
            ((4, b"overlay.redirect"), b"/x"),
        ];
        // metacopy makes a file external, whatever its layout.
        let written = with_xattrs(&xattrs, Kind::Inline(b"data".to_vec()));
        let image = open(&written.bytes).unwrap();
        let layout = image.inode(written.nids[1]).unwrap().layout;
        image.content(&layout)
    };
    assert_eq!(content(b""), Ok(Content::External(None)));
    assert_eq!(content(&digest(36, 1)), Ok(Content::External(Some(sha256))));
    assert_eq!(content(&digest(68, 2)), Ok(Content::External(Some(sha512))));
    for (value, words) in [
        (vec![0], "metacopy xattr is too short"),
        (vec![0, 3, 0], "metacopy xattr is too short"),
        (
            digest(4, 0),
            "metacopy xattr: digest algorithm is not supported",
        ),
        (
            digest(36, 3),
            "metacopy xattr: digest algorithm is not supported",
        ),
        (
            digest(36, 2),
            "metacopy xattr: length is not that of the digest algorithm",
        ),
        (
            digest(68, 1),
            "metacopy xattr: length is not that of the digest algorithm",
        ),
        (
            digest(35, 1),
            "metacopy xattr: length is not that of the digest algorithm",
        ),
        (
            [vec![1], digest(36, 1)[1..].to_vec()].concat(),
            "metacopy xattr: version is not supported",
        ),
        (
            digest(36, 1)[..35].to_vec(),
            "metacopy xattr: length is not that of the xattr",
        ),
        (
            [vec![0, 36, 1], digest(36, 1)[3..].to_vec()].concat(),
            "metacopy xattr: flags are not supported",
        ),
        (digest(69, 2), "metacopy xattr is too long"),
    ] {
        assert_eq!(what(content(&value)), words, "{value:?}");
    }

    // Without a redirect, the file is sparse; metacopy with a digest is an error then.
    for (value, want) in [
        (vec![], "accepted"),
        (
            digest(36, 1),
            "metacopy xattr has a digest, but there is no redirect xattr",
        ),
    ] {
        let xattrs = [((4, &b"overlay.metacopy"[..]), &value[..])];
        let written = with_xattrs(&xattrs, Kind::Fifo);
        let image = open(&written.bytes).unwrap();
        let layout = image.inode(written.nids[1]).unwrap().layout;
        assert_eq!(what(image.content(&layout)), want);
    }
    // A redirect without metacopy has no effect; chunks without metacopy are an error.
    let xattrs = [((4, &b"overlay.redirect"[..]), &b"/x"[..])];
    let written = with_xattrs(&xattrs, Kind::Inline(b"data".to_vec()));
    let image = open(&written.bytes).unwrap();
    let layout = image.inode(written.nids[1]).unwrap().layout;
    assert_eq!(image.content(&layout), Ok(Content::Inline));
    let at = written.nids[1] as usize * 32;
    let mut bytes = written.bytes;
    bytes[at] = 9;
    let image = open(&bytes).unwrap();
    let layout = image.inode(written.nids[1]).unwrap().layout;
    assert_eq!(
        what(image.content(&layout)),
        "regular file in chunks has no metacopy xattr"
    );
}

#[test]
fn redirect() {
    let redirect = |value: &[u8]| {
        let written = with_xattrs(&[((4, b"overlay.redirect"), value)], Kind::Fifo);
        let image = open(&written.bytes).unwrap();
        let layout = image.inode(written.nids[1]).unwrap().layout;
        let mut out = [0; 4096];
        let len = image.redirect(&layout, &mut out)?;
        Ok(len.map(|len| out[..len].to_vec()))
    };
    for path in [
        &b"x"[..],
        b"a5/5e63.file",
        b".../..a/a..",
        b"a/b/c/d",
        &[b'x'; 4096],
    ] {
        assert_eq!(redirect(&[b"/", path].concat()), Ok(Some(path.to_vec())));
    }
    for (value, words) in [
        (&b""[..], "redirect xattr is empty"),
        (b"a/b", "redirect xattr does not start with a slash"),
        (b"/", "redirect xattr has an empty component"),
        (b"//a", "redirect xattr has an empty component"),
        (b"/a//b", "redirect xattr has an empty component"),
        (b"/a/", "redirect xattr has an empty component"),
        (b"/.", "redirect xattr has a component '.' or '..'"),
        (b"/a/./b", "redirect xattr has a component '.' or '..'"),
        (b"/..", "redirect xattr has a component '.' or '..'"),
        (b"/a/../b", "redirect xattr has a component '.' or '..'"),
        (b"/a\0b", "redirect xattr has a NUL"),
    ] {
        assert_eq!(what(redirect(value)), words, "{value:?}");
    }
    let long = [&b"/"[..], &[b'x'; 4097]].concat();
    assert_eq!(what(redirect(&long)), "redirect xattr is too long");
}

#[test]
fn names_of_xattrs_for_an_overlayfs_on_top() {
    for (name, want) in [
        (&b"a"[..], Some(&b"a"[..])),
        (b"overlay.opaque", None),
        (b"overlay.redirect", None),
        (b"overlay.overlay.opaque", Some(b"overlay.overlay.opaque")),
    ] {
        let shown = overlay::visible(overlay::INDEX_TRUSTED, name, Escapes::Kept);
        assert_eq!(shown.map(|shown| shown.name), want, "{name:?}");
        let mut buffer = [0; 255];
        let stored = overlay::stored_trusted(name, Escapes::Kept, &mut buffer);
        assert_eq!(stored, want, "{name:?}");
    }
}

#[test]
fn names_of_xattrs() {
    let shown = |index, name: &[u8]| {
        overlay::visible(index, name, Escapes::Removed)
            .map(|name| [name.prefix.as_bytes(), name.name].concat())
            .map(|name| String::from_utf8(name).unwrap())
    };
    for (index, name, want) in [
        (0, &b"anything"[..], None),
        (1, b"a", Some("user.a")),
        (1, b"overlay.whiteout", Some("user.overlay.whiteout")),
        (1, b"", None),
        (2, b"", Some("system.posix_acl_access")),
        (3, b"", Some("system.posix_acl_default")),
        (2, b"x", None),
        (4, b"a", Some("trusted.a")),
        (4, b"overlay", Some("trusted.overlay")),
        (4, b"overlayx", Some("trusted.overlayx")),
        (4, b"overlay.", None),
        (4, b"overlay.opaque", None),
        (4, b"overlay.overlay", None),
        (4, b"overlay.overlay.", Some("trusted.overlay.")),
        (4, b"overlay.overlay.opaque", Some("trusted.overlay.opaque")),
        (
            4,
            b"overlay.overlay.overlay.x",
            Some("trusted.overlay.overlay.x"),
        ),
        (5, b"lov", None),
        (6, b"selinux", Some("security.selinux")),
        (7, b"x", None),
        (0x84, b"x", None),
    ] {
        assert_eq!(shown(index, name).as_deref(), want, "{index} {name:?}");
        let private = index == 4 && want.is_none();
        assert_eq!(
            overlay::is_private(index, name),
            private,
            "{index} {name:?}"
        );
        // The stored name of the shown one is the same again.
        if let Some(shown) = want.and_then(|want| want.strip_prefix("trusted.")) {
            let mut buffer = [0; 255];
            let stored = overlay::stored_trusted(shown.as_bytes(), Escapes::Removed, &mut buffer);
            assert_eq!(stored, Some(name));
        }
    }
    // overlayfs allows 255 bytes with `trusted.`: 231 behind `trusted.overlay.overlay.`.
    let mut buffer = [0; 255];
    let fits = [&b"overlay."[..], &[b'x'; 231]].concat();
    let stored = overlay::stored_trusted(&fits, Escapes::Removed, &mut buffer).unwrap();
    assert_eq!(stored, [&b"overlay."[..], &fits].concat());
    assert_eq!(
        overlay::stored_trusted(&[&fits[..], b"x"].concat(), Escapes::Removed, &mut buffer),
        None
    );
    assert_eq!(
        overlay::stored_trusted(&[b'x'; 255], Escapes::Removed, &mut buffer),
        Some(&[b'x'; 255][..])
    );
    // The longest name that getxattr(2) accepts, and a name with one byte more.
    for (index, prefix) in [(1, "user."), (4, "trusted."), (6, "security.")] {
        let longest = "x".repeat(255 - prefix.len());
        let whole = format!("{prefix}{longest}");
        assert_eq!(shown(index, longest.as_bytes()), Some(whole));
        assert_eq!(shown(index, format!("{longest}x").as_bytes()), None);
    }
}

#[test]
fn file_types() {
    for raw in 0..=255 {
        let kind = FileType::of_raw(raw);
        assert_eq!(kind.as_raw(), if raw <= 7 { raw } else { 0 });
    }
    for (mode, raw) in [
        (0o100644, 1),
        (0o040755, 2),
        (0o020000, 3),
        (0o060000, 4),
        (0o010000, 5),
        (0o140000, 6),
        (0o120777, 7),
        (0o170000, 0),
        (0o007777, 0),
        (0o110000, 0),
    ] {
        assert_eq!(FileType::of_mode(mode).as_raw(), raw);
    }
}

/// Reading an inode takes one run, or two if it crosses a block; a lookup takes one per block.
#[test]
fn runs() {
    let written = one(Kind::Fifo);
    let image = open(&written.bytes).unwrap();
    image.source().runs.set(0);
    let root = image.inode(written.nids[0]).unwrap();
    assert_eq!(image.source().runs.replace(0), 1);
    image.lookup(&root.layout, b"0").unwrap().unwrap();
    assert_eq!(image.source().runs.replace(0), 1);

    // The root of an image of version 0 or 1: 256 whiteouts whose inodes follow each other.
    let mut tree = tree((0..256).map(|_| Kind::Char(0)).collect());
    if let Kind::Directory(entries) = &mut tree.files[0].kind {
        *entries = (0..256)
            .map(|number| (format!("{number:02x}").into_bytes(), number + 1))
            .collect();
    }
    let written = write(&tree, &options());
    let image = open(&written.bytes).unwrap();
    let root = image.inode(written.nids[0]).unwrap();
    image.source().runs.set(0);
    let seen = names(&image, &root.layout).0;
    assert_eq!(seen, [b".".to_vec(), b"..".to_vec()]);
    // At most one run for each block of the image.
    let blocks = written.bytes.len() as u64 / BLOCK_SIZE;
    assert!(image.source().runs.get() <= blocks);
}
