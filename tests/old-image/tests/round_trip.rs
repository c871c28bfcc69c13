// SPDX-License-Identifier: GPL-2.0

//! Random trees: the dump of their image is read by the composefs crate, and is the tree.

#[path = "../../image/tests/support/model.rs"]
mod model;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;

use composefs::dumpfile::dumpfile_to_filesystem;
use composefs::dumpfile_parse::Entry;
use composefs::dumpfile_parse::Item;
use composefs::fsverity::Sha256HashValue;
use composefs_old_image_tests::check::checked;
use composefs_old_image_tests::samples;
use composefs_old_image_tests::tree::Data;
use composefs_old_image_tests::tree::Inode;
use composefs_old_image_tests::tree::Tree;
use composefs_old_image_tests::writer::write;
use model::Kind;
use model::Model;
use proptest::prelude::*;

/// Names in the model have an index for their prefix.
const PREFIXES: [&str; 7] = [
    "",
    "user.",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "trusted.",
    "lustre.",
    "security.",
];

/// The tree that the model is, without what the format did not have: content in the image, and
/// SHA-512.
fn tree(model: &Model) -> Tree {
    let nlinks = model.nlinks();
    let inodes = model.files.iter().zip(nlinks).map(|(file, nlink)| {
        let path = |path: &[u8]| Data::Path(path.to_vec());
        let (kind, rdev, size, data, digest) = match &file.kind {
            Kind::Directory(entries) => {
                let entries = entries
                    .iter()
                    .map(|(name, number)| (name.clone(), *number as u32));
                (0o040_000, 0, 4096, Data::Entries(entries.collect()), None)
            }
            Kind::Inline(content) if content.is_empty() => (0o100_000, 0, 0, Data::None, None),
            Kind::Inline(content) => {
                let size = content.len() as u64;
                (0o100_000, 0, size, path(b"-"), Some([content[0]; 32]))
            }
            Kind::Sparse(size) => (0o100_000, 0, (*size).max(1), path(b"/absolute"), None),
            Kind::External {
                size,
                path: p,
                digest,
            } => {
                let digest = digest.as_ref().map(|digest| *digest.first_chunk().unwrap());
                (0o100_000, 0, (*size).max(1), path(p), digest)
            }
            Kind::Symlink(target) => {
                // The composefs crate reads no longer ones.
                let target = &target[..target.len().min(1024)];
                (0o120_000, 0, target.len() as u64, path(target), None)
            }
            Kind::Char(rdev) => (0o020_000, *rdev, 0, Data::None, None),
            Kind::Block(rdev) => (0o060_000, *rdev, 0, Data::None, None),
            Kind::Fifo => (0o010_000, 0, 0, Data::None, None),
            Kind::Socket => (0o140_000, 0, 0, Data::None, None),
        };
        let xattrs = file.xattrs.iter().map(|((index, name), value)| {
            let mut name = [PREFIXES[usize::from(*index)].as_bytes(), name].concat();
            name.truncate(255);
            (name, value.clone())
        });
        Inode {
            mode: kind | u32::from(file.perm),
            nlink,
            uid: file.uid,
            gid: file.gid,
            rdev,
            size,
            mtime: file.mtime,
            mtime_nsec: file.nsec,
            ctime: 1,
            data,
            xattrs: xattrs.filter(|(name, _)| !name.is_empty()).collect(),
            digest,
        }
    });
    Tree {
        inodes: inodes.collect(),
    }
}

/// The number of the inode at each path.
fn paths(tree: &Tree) -> BTreeMap<Vec<u8>, u32> {
    let mut paths = BTreeMap::from([(b"/".to_vec(), 0)]);
    let mut directories = vec![(Vec::new(), 0)];
    while let Some((path, number)) = directories.pop() {
        let Data::Entries(entries) = &tree.inodes[number as usize].data else {
            continue;
        };
        for (name, child) in entries {
            let path = [&path[..], b"/", name].concat();
            directories.push((path.clone(), *child));
            paths.insert(path, *child);
        }
    }
    paths
}

/// Compares an entry with the inode that it is of.
fn compare(entry: &Entry<'_>, inode: &Inode) {
    let stat = (entry.mode, entry.uid, entry.gid);
    assert_eq!(stat, (inode.mode, inode.uid, inode.gid));
    assert_eq!(entry.mtime.sec, inode.mtime as u64);
    assert_eq!(entry.mtime.nsec, u64::from(inode.mtime_nsec));
    let xattrs: BTreeMap<_, _> = entry
        .xattrs
        .iter()
        .map(|xattr| (xattr.key.as_bytes().to_vec(), xattr.value.to_vec()))
        .collect();
    assert_eq!(xattrs, inode.xattrs);
    assert_eq!(entry.xattrs.len(), inode.xattrs.len());
    let links = match (&entry.item, &inode.data) {
        (Item::Directory { nlink }, Data::Entries(_)) => nlink,
        (Item::Symlink { nlink, target }, Data::Path(path)) => {
            assert_eq!(target.as_os_str().as_bytes(), path);
            nlink
        }
        (
            Item::Regular {
                size,
                nlink,
                path,
                fsverity_digest,
            },
            Data::Path(want),
        ) => {
            assert_eq!(path.as_os_str().as_bytes(), want);
            assert_eq!(*size, inode.size);
            let hex = |byte: &u8| format!("{byte:02x}");
            let digest = inode
                .digest
                .map(|digest| digest.iter().map(hex).collect::<String>());
            assert_eq!(*fsverity_digest, digest);
            nlink
        }
        (
            Item::RegularInline {
                nlink,
                size: 0,
                content,
            },
            Data::None,
        ) => {
            assert!(content.is_empty() && inode.size == 0);
            nlink
        }
        (Item::Device { nlink, rdev }, Data::None) => {
            assert_eq!(*rdev, u64::from(inode.rdev));
            nlink
        }
        (Item::Fifo { nlink } | Item::Socket { nlink }, Data::None) => nlink,
        other => panic!("{other:?}"),
    };
    assert_eq!(*links, inode.nlink);
}

/// Compares the dump of the image of a tree with the tree.
fn round_trip(tree: &Tree) {
    let text = checked(&write(tree).bytes, u64::MAX).unwrap();
    let mut want = paths(tree);
    let all = want.clone();
    let mut first = BTreeMap::new();
    for line in text.lines() {
        let entry = Entry::parse(line).unwrap();
        let path = entry.path.as_os_str().as_bytes().to_vec();
        let number = want.remove(&path).expect("a path of the tree, once");
        match &entry.item {
            Item::Hardlink { target } => {
                let target = target.as_os_str().as_bytes();
                assert_eq!(all.get(target), Some(&number));
                assert_eq!(first.get(&number).map(Vec::as_slice), Some(target));
            }
            _ => {
                compare(&entry, &tree.inodes[number as usize]);
                assert!(first.insert(number, path).is_none());
            }
        }
    }
    assert!(want.is_empty(), "not in the dump: {want:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree(model in model::tree(40)) {
        round_trip(&tree(&model));
    }
}

#[test]
fn samples_of_all_kinds() {
    for tree in [samples::tiny(), samples::small(), samples::wide()] {
        round_trip(&tree);
    }
}

/// The dump as a whole is one that the composefs crate makes a file system of.
#[test]
fn a_file_system_of_the_crate() {
    let mut tree = samples::wide();
    // The crate derives the path of an object from its digest.
    for inode in &mut tree.inodes {
        if inode.mode & 0o170_000 == 0o100_000 && inode.size > 0 {
            inode.digest = Some([0xd1; 32]);
            inode.data = Data::Path(format!("d1/{}", "d1".repeat(31)).into());
        }
    }
    let text = checked(&write(&tree).bytes, u64::MAX).unwrap();
    let system = dumpfile_to_filesystem::<Sha256HashValue>(&text).unwrap();
    assert_eq!(system.root.stat.xattrs.len(), 1);
}

/// The text, character by character.
#[test]
fn text_of_a_dump() {
    let text = checked(&write(&samples::small()).bytes, u64::MAX).unwrap();
    let want = r"/ 0 40755 1 0 0 0 1674000000.5 - - - user.root=
/- 0 100644 1 0 0 0 1674000000.5 - - -
/a\x20b\n=\\ 1099511627776 100644 1 0 0 0 18446744073709465216.999999999 by/path - - security.selinux=system_u:object_r:bin_t:s0\x00
/again 70000 104755 3 1000 100 0 1674000000.5 d1/d1d1 - d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1 security.selinux=system_u:object_r:bin_t:s0\x00 user.a\x3db=-
/bin 0 40755 1 0 0 0 1674000000.5 - - -
/bin/program 70000 @104755 3 1000 100 0 1674000000.5 /again - -
/bin/zzz 70000 @104755 3 1000 100 0 1674000000.5 /again - -
/block 0 60660 1 0 0 2051 1674000000.5 - - -
/char 0 20666 1 0 0 4293918979 1674000000.5 - - -
/fifo 0 10644 1 0 0 0 1674000000.5 - - -
/socket 0 140755 1 0 0 0 1674000000.5 - - -
/sub 0 40755 1 0 0 0 1674000000.5 - - -
/sub/empty 0 40755 1 0 0 0 1674000000.5 - - -
/sub/link 14 120777 1 0 0 0 1674000000.5 ../bin/program - - trusted.overlay.opaque=y
/whiteout 0 20000 1 0 0 0 1674000000.5 - - -
";
    assert_eq!(text, want);
}
