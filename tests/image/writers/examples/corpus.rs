// SPDX-License-Identifier: GPL-2.0

//! Writes small images, from which hostile ones are made. The composefs crate writes them, with
//! each feature of the format.
//!
//!     cargo run --package composefs-image-writers --example corpus -- DIR

use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use composefs::erofs::format::FormatVersion;
use composefs::erofs::writer::{mkfs_erofs_versioned, ValidatedFileSystem};
use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::generic_tree::LeafId;
use composefs::tree::{Directory, FileSystem, Inode, LeafContent, RegularFile, Stat};

/// `system.posix_acl_access`: a named user, and a mask.
const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 7, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255,
    255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];

/// `security.capability` of version 2: `cap_net_raw+ep`.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const LABEL: (&str, &[u8]) = ("security.selinux", b"system_u:object_r:bin_t:s0\0");

/// The content of an image.
#[derive(Clone, Copy, PartialEq)]
enum Size {
    /// One file, one symlink and one directory.
    Tiny,
    /// One or two of each kind of file.
    Small,
    /// As [`Size::Small`], and a directory of several blocks.
    Wide,
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: corpus DIR")?
        .into();
    std::fs::create_dir_all(&dir)?;
    for (name, size) in [
        ("tiny", Size::Tiny),
        ("small", Size::Small),
        ("wide", Size::Wide),
    ] {
        for (number, version) in [FormatVersion::V0, FormatVersion::V1, FormatVersion::V2]
            .into_iter()
            .enumerate()
        {
            let bytes = if number == 1 {
                image::<Sha512HashValue>(size, version)?
            } else {
                image::<Sha256HashValue>(size, version)?
            };
            std::fs::write(dir.join(format!("{name}-v{number}.cfs")), bytes)?;
        }
    }
    Ok(())
}

fn image<Id: FsVerityHashValue>(
    size: Size,
    version: FormatVersion,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut tree = Tree::<Id>(FileSystem::new(stat(0o755, &[LABEL])));
    let mut root = Directory::new(stat(0o755, &[LABEL]));
    let target = OsStr::new("../bin/program");
    let link = tree.leaf(0o777, &[LABEL], LeafContent::Symlink(target.into()));
    let file = tree.external(1, 5000, &[LABEL]);
    root.insert("link".as_ref(), Inode::leaf(link));
    root.insert("file".as_ref(), Inode::leaf(file));
    let mut sub = Directory::new(stat(0o700, &[]));
    sub.insert("again".as_ref(), Inode::leaf(file));
    root.insert("sub".as_ref(), Inode::Directory(Box::new(sub)));
    if size != Size::Tiny {
        tree.small(&mut root);
    }
    if size == Size::Wide {
        let mut wide = Directory::new(stat(0o755, &[LABEL]));
        for number in 0..500 {
            let name = format!("{number:03}-{}", "n".repeat(number % 40));
            wide.insert(
                name.as_ref(),
                Inode::leaf(if number % 9 == 0 { link } else { file }),
            );
        }
        root.insert("wide".as_ref(), Inode::Directory(Box::new(wide)));
    }
    tree.0.root = root;
    let system = ValidatedFileSystem::new(tree.0)?;
    Ok(mkfs_erofs_versioned(&system, version).into_vec())
}

fn stat(mode: u32, xattrs: &[(&str, &[u8])]) -> Stat {
    let xattrs = xattrs
        .iter()
        .map(|(name, value)| (OsStr::new(name).into(), (*value).into()));
    Stat {
        st_mode: mode,
        st_uid: 0,
        st_gid: 0,
        st_mtim_sec: 1_700_000_000,
        st_mtim_nsec: 0,
        xattrs: xattrs.collect(),
    }
}

/// A tree that is being made.
struct Tree<Id: FsVerityHashValue>(FileSystem<Id>);

impl<Id: FsVerityHashValue> Tree<Id> {
    fn leaf(&mut self, mode: u32, xattrs: &[(&str, &[u8])], content: LeafContent<Id>) -> LeafId {
        self.0.push_leaf(stat(mode, xattrs), content)
    }

    /// A file with its content in an object, which does not exist.
    fn external(&mut self, number: u8, size: u64, xattrs: &[(&str, &[u8])]) -> LeafId {
        let content = RegularFile::External(Self::id(number), size);
        self.leaf(0o755, xattrs, LeafContent::Regular(content))
    }

    fn id(number: u8) -> Id {
        let mut id = Id::EMPTY;
        id.as_mut_bytes().fill(number);
        id
    }

    /// Adds one or two of each kind of file.
    fn small(&mut self, root: &mut Directory<Id>) {
        let regular = |content| LeafContent::Regular(content);
        let inline = |len| regular(RegularFile::Inline(vec![b'i'; len].into()));
        let symlink = |len| LeafContent::Symlink(OsStr::from_bytes(&vec![b'l'; len]).into());
        let long = "n".repeat(230);
        let long_user = format!("user.{long}");
        let many: Vec<(String, Vec<u8>)> = (0..40)
            .map(|number| (format!("user.{number}"), vec![b'v'; number]))
            .collect();
        let mut many: Vec<(&str, &[u8])> = many.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        many.push(LABEL);
        let large = vec![b'L'; 9000];
        let id = Self::id(7);

        let leaves = [
            (
                "acl",
                self.leaf(0o674, &[("system.posix_acl_access", &ACL)], inline(3)),
            ),
            (
                "block",
                self.leaf(0o660, &[LABEL], LeafContent::BlockDevice(0x0803)),
            ),
            (
                "capability",
                self.external(2, 70_000, &[("security.capability", &CAPABILITY), LABEL]),
            ),
            (
                "char",
                self.leaf(0o666, &[], LeafContent::CharacterDevice(0x0103)),
            ),
            ("empty", self.leaf(0o644, &[], inline(0))),
            (
                "escaped",
                self.leaf(0o644, &[("trusted.overlay.opaque", b"y")], inline(1)),
            ),
            ("fifo", self.leaf(0o644, &[], LeafContent::Fifo)),
            ("inline", self.leaf(0o644, &[LABEL], inline(64))),
            ("inline-large", self.leaf(0o600, &[], inline(500))),
            (
                "large-xattr",
                self.leaf(0o644, &[("user.large", &large)], inline(10)),
            ),
            ("link-long", self.leaf(0o777, &[], symlink(1000))),
            (
                "long-xattr",
                self.leaf(0o644, &[(&long_user, b"x")], inline(5)),
            ),
            ("many-xattrs", self.leaf(0o644, &many, inline(20))),
            (
                "no-digest",
                self.leaf(0o644, &[], regular(RegularFile::ExternalNoVerity(id, 99))),
            ),
            ("no-xattrs", self.external(3, 1, &[])),
            ("socket", self.leaf(0o755, &[], LeafContent::Socket)),
            (
                "sparse",
                self.leaf(0o644, &[], regular(RegularFile::Sparse(1 << 33))),
            ),
            (
                "whiteout",
                self.leaf(0, &[], LeafContent::CharacterDevice(0)),
            ),
        ];
        let mut mixed = Directory::new(stat(0o1777, &[("system.posix_acl_default", &ACL), LABEL]));
        for (name, leaf) in leaves {
            mixed.insert(name.as_ref(), Inode::leaf(leaf));
        }
        mixed.insert(long.as_ref(), Inode::leaf(leaves[0].1));
        root.insert("mixed".as_ref(), Inode::Directory(Box::new(mixed)));

        let mut deep = Directory::new(stat(0o755, &[]));
        deep.insert("bottom".as_ref(), Inode::leaf(leaves[4].1));
        for name in ["f", "e", "d", "c", "b", "a"] {
            let mut outer = Directory::new(stat(0o755, &[LABEL]));
            outer.insert(name.as_ref(), Inode::Directory(Box::new(deep)));
            deep = outer;
        }
        root.insert("deep".as_ref(), Inode::Directory(Box::new(deep)));
    }
}
