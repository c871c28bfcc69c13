// SPDX-License-Identifier: GPL-2.0

//! Random trees, written by the composefs crate in each of its formats: the parser must read what
//! was written.
//!
//! Format versions 0 and 1 are what `mkcomposefs` writes too, byte for byte.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::erofs::format::FormatVersion;
use composefs::erofs::writer::{mkfs_erofs_versioned, ValidatedFileSystem};
use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::generic_tree::LeafId;
use composefs::tree::{Directory, FileSystem, Inode, LeafContent, RegularFile, Stat};
use composefs_image::Image;
use proptest::prelude::*;

use support::model::{self, File, Kind, Model};
use support::walk::walk;
use support::{compare, Memory};

const PREFIXES: [&str; 7] = [
    "",
    "user.",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "trusted.",
    "lustre.",
    "security.",
];

/// Changes a model into one that the crate can write: it derives paths from digests, and has a
/// lower limit for inline files.
fn writable<Id: FsVerityHashValue>(model: &mut Model, version: FormatVersion) {
    let whiteouts: Vec<bool> = model
        .files
        .iter()
        .map(|file| matches!(file.kind, Kind::Char(0)))
        .collect();
    let nlinks = model.nlinks();
    for (number, file) in model.files.iter_mut().enumerate() {
        match &mut file.kind {
            Kind::Inline(data) => data.truncate(512),
            Kind::Symlink(target) => target.truncate(1000),
            Kind::External { path, digest, .. } => {
                let mut id = Id::EMPTY;
                for (to, from) in id.as_mut_bytes().iter_mut().zip(path.iter().cycle()) {
                    *to = *from;
                }
                if digest.is_some() {
                    *digest = Some(id.as_bytes().to_vec());
                }
                *path = id.to_object_pathname().into_bytes();
            }
            // The crate does not write hard links to whiteouts as whiteouts.
            Kind::Char(rdev) if whiteouts[number] && nlinks[number] > 1 => *rdev = 1,
            _ => (),
        }
        if version == FormatVersion::V2 {
            file.nsec = 0;
        }
        file.xattrs = std::mem::take(&mut file.xattrs)
            .into_iter()
            .filter(|((index, name), _)| {
                // These names have a meaning of their own, or would be there twice when escaped.
                !name.starts_with(b"overlay.opaque")
                    && !name.starts_with(b"overlay.whiteout")
                    && name.len() + 8 + PREFIXES[usize::from(*index)].len() <= 255
            })
            .collect();
    }
}

fn stat(file: &File) -> Stat {
    let xattrs = file.xattrs.iter().map(|((index, name), value)| {
        let name = [PREFIXES[usize::from(*index)].as_bytes(), name].concat();
        (OsStr::from_bytes(&name).into(), value.clone().into())
    });
    Stat {
        st_mode: u32::from(file.perm),
        st_uid: file.uid,
        st_gid: file.gid,
        st_mtim_sec: file.mtime,
        st_mtim_nsec: file.nsec,
        xattrs: xattrs.collect(),
    }
}

fn leaf<Id: FsVerityHashValue>(kind: &Kind) -> LeafContent<Id> {
    match kind {
        Kind::Directory(_) => unreachable!(),
        Kind::Inline(data) => LeafContent::Regular(RegularFile::Inline(data.clone().into())),
        Kind::External { size, path, digest } => {
            let path = std::str::from_utf8(path).unwrap();
            let id = Id::from_object_pathname(path.as_bytes()).unwrap();
            LeafContent::Regular(match digest {
                Some(_) => RegularFile::External(id, *size),
                None => RegularFile::ExternalNoVerity(id, *size),
            })
        }
        Kind::Sparse(size) => LeafContent::Regular(RegularFile::Sparse(*size)),
        Kind::Symlink(target) => LeafContent::Symlink(OsStr::from_bytes(target).into()),
        Kind::Char(rdev) => LeafContent::CharacterDevice(u64::from(*rdev)),
        Kind::Block(rdev) => LeafContent::BlockDevice(u64::from(*rdev)),
        Kind::Fifo => LeafContent::Fifo,
        Kind::Socket => LeafContent::Socket,
    }
}

fn directory<Id: FsVerityHashValue>(
    model: &Model,
    number: usize,
    leaves: &BTreeMap<usize, LeafId>,
) -> Directory<Id> {
    let mut result = Directory::new(stat(&model.files[number]));
    let Kind::Directory(entries) = &model.files[number].kind else {
        unreachable!()
    };
    for (name, child) in entries {
        let inode = match leaves.get(child) {
            Some(id) => Inode::leaf(*id),
            None => Inode::Directory(Box::new(directory(model, *child, leaves))),
        };
        result.insert(OsStr::from_bytes(name), inode);
    }
    result
}

/// Writes the model with the crate.
fn write<Id: FsVerityHashValue>(model: &Model, version: FormatVersion) -> Vec<u8> {
    let mut system = FileSystem::<Id>::new(stat(&model.files[0]));
    let mut leaves = BTreeMap::new();
    for (number, file) in model.files.iter().enumerate() {
        if !matches!(file.kind, Kind::Directory(_)) {
            let id = system.push_leaf(stat(file), leaf(&file.kind));
            leaves.insert(number, id);
        }
    }
    system.root = directory(model, 0, &leaves);
    let system = ValidatedFileSystem::new(system).unwrap();
    mkfs_erofs_versioned(&system, version).into_vec()
}

/// Changes the model into what a writer of this version stores.
fn stored(model: &mut Model, version: FormatVersion) {
    let v2 = version == FormatVersion::V2;
    for file in &mut model.files {
        file.xattrs = std::mem::take(&mut file.xattrs)
            .into_iter()
            .map(|((index, name), value)| {
                let key = match index {
                    4 if name.starts_with(b"overlay.") => (4, [b"overlay.", &name[..]].concat()),
                    5 if !v2 => (0, [b"lustre.", &name[..]].concat()),
                    _ => (index, name),
                };
                (key, value)
            })
            .collect();
    }
    if v2 {
        return;
    }
    // Whiteouts are escaped.
    let whiteouts: Vec<bool> = model
        .files
        .iter()
        .map(|file| matches!(file.kind, Kind::Char(0)))
        .collect();
    for (number, file) in model.files.iter_mut().enumerate() {
        let mut mark = |name: &str, value: &[u8]| {
            let name = ["overlay.", name].concat().into_bytes();
            file.xattrs.insert((1, name.clone()), value.to_vec());
            let name = [b"overlay.", &name[..]].concat();
            file.xattrs.insert((4, name), value.to_vec());
        };
        if whiteouts[number] {
            mark("whiteout", b"");
            file.kind = Kind::Inline(vec![]);
        } else if let Kind::Directory(entries) = &file.kind {
            if entries.values().any(|child| whiteouts[*child]) {
                mark("whiteouts", b"");
                if version == FormatVersion::V1 {
                    mark("opaque", b"x");
                }
            }
        }
    }
    // The 256 whiteouts that hide an object directory.
    let key = (6, b"selinux".to_vec());
    let label = model.files[0].xattrs.get(&key).cloned();
    let stub = File {
        kind: Kind::Char(0),
        perm: 0o644,
        xattrs: label.map(|label| (key, label)).into_iter().collect(),
        ..model.files[0].clone()
    };
    for number in 0..256 {
        let next = model.files.len();
        let Kind::Directory(entries) = &mut model.files[0].kind else {
            unreachable!()
        };
        let name = format!("{number:02x}").into_bytes();
        if let std::collections::btree_map::Entry::Vacant(entry) = entries.entry(name) {
            entry.insert(next);
            model.files.push(stub.clone());
        }
    }
    let opaque = (4, b"overlay.opaque".to_vec());
    model.files[0].xattrs.insert(opaque, b"y".to_vec());
}

/// Finds the inode number of each file by its name.
fn find(image: &Image<Memory>, model: &Model) -> Vec<u64> {
    let mut nids = vec![0; model.files.len()];
    nids[0] = image.superblock().root_nid;
    let mut todo = vec![0];
    while let Some(number) = todo.pop() {
        let Kind::Directory(entries) = &model.files[number].kind else {
            continue;
        };
        let dir = image.inode(nids[number]).unwrap().layout;
        for (name, child) in entries {
            let found = image.lookup(&dir, name).unwrap().unwrap();
            assert!(nids[*child] == 0 || nids[*child] == found.nid, "hard link");
            nids[*child] = found.nid;
            todo.push(*child);
        }
    }
    nids
}

fn check<Id: FsVerityHashValue>(mut model: Model, version: FormatVersion) {
    writable::<Id>(&mut model, version);
    let bytes = write::<Id>(&model, version);
    stored(&mut model, version);
    let seen = walk(Memory::new(bytes.clone()), usize::MAX);
    assert_eq!((seen.corrupt, seen.faults), (0, 0));
    let image = Image::open(Memory::new(bytes)).unwrap();
    let number = version.composefs_version().get();
    assert_eq!(image.superblock().composefs_version, number);
    let acl = model
        .files
        .iter()
        .flat_map(|file| file.xattrs.keys())
        .any(|(index, _)| matches!(index, 2 | 3));
    assert_eq!(image.superblock().has_acl, acl && number < 2);
    let nids = find(&image, &model);
    compare::compare(&image, &model, &nids);
}

proptest! {
    #![proptest_config(support::cases(24))]

    #[test]
    fn v0_sha256(model in model::tree(60)) {
        check::<Sha256HashValue>(model, FormatVersion::V0);
    }

    #[test]
    fn v0_sha512(model in model::tree(60)) {
        check::<Sha512HashValue>(model, FormatVersion::V0);
    }

    #[test]
    fn v1_sha256(model in model::tree(60)) {
        check::<Sha256HashValue>(model, FormatVersion::V1);
    }

    #[test]
    fn v1_sha512(model in model::tree(60)) {
        check::<Sha512HashValue>(model, FormatVersion::V1);
    }

    #[test]
    fn v2_sha256(model in model::tree(60)) {
        check::<Sha256HashValue>(model, FormatVersion::V2);
    }

    #[test]
    fn v2_sha512(model in model::tree(60)) {
        check::<Sha512HashValue>(model, FormatVersion::V2);
    }
}
