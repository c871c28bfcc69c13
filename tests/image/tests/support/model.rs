// SPDX-License-Identifier: GPL-2.0

//! A file tree as a data structure, and strategies that make random trees.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

/// A tree: files refer to each other by index. The root is number 0.
#[derive(Clone, Debug)]
pub struct Model {
    pub files: Vec<File>,
}

#[derive(Clone, Debug)]
pub struct File {
    pub kind: Kind,
    /// Permission bits, with suid, sgid and sticky.
    pub perm: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
    pub nsec: u32,
    /// Values by index and name, as stored, without metacopy and redirect.
    pub xattrs: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// Without `.` and `..`.
    Directory(BTreeMap<Vec<u8>, usize>),
    Inline(Vec<u8>),
    External {
        size: u64,
        path: Vec<u8>,
        digest: Option<Vec<u8>>,
    },
    Sparse(u64),
    Symlink(Vec<u8>),
    Char(u32),
    Block(u32),
    Fifo,
    Socket,
}

impl Model {
    /// Returns the number of links of each file.
    pub fn nlinks(&self) -> Vec<u32> {
        let mut nlinks = vec![0; self.files.len()];
        nlinks[0] = 2;
        for (number, file) in self.files.iter().enumerate() {
            if let Kind::Directory(entries) = &file.kind {
                for child in entries.values() {
                    if matches!(self.files[*child].kind, Kind::Directory(_)) {
                        nlinks[number] += 1;
                        nlinks[*child] += 2;
                    } else {
                        nlinks[*child] += 1;
                    }
                }
            }
        }
        nlinks
    }
}

/// A name: mostly short and with common prefixes, sometimes long, any bytes but NUL and slash.
pub fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => b'a'..=b'c',
        1 => (1..=255u8).prop_filter("slash", |byte| *byte != b'/'),
    ];
    prop_oneof![
        8 => vec(byte.clone(), 1..6),
        2 => vec(byte.clone(), 1..40),
        1 => vec(byte, 240..=255),
    ]
    .prop_filter("dots", |name| name != b"." && name != b"..")
}

fn xattr() -> impl Strategy<Value = ((u8, Vec<u8>), Vec<u8>)> {
    let byte = (1..=255u8).boxed();
    let name = prop_oneof![
        // Few names, so that several inodes have the same xattr.
        6 => prop::sample::select(vec![
            &b"selinux"[..], b"capability", b"a", b"b", b"overlay.overlay.opaque",
            b"overlay.opaque", b"overlay.whiteout", b"overlay.overlay.",
        ]).prop_map(<[u8]>::to_vec),
        2 => vec(byte.clone(), 1..20),
        1 => vec(byte, 200..=255),
    ];
    let value = prop_oneof![
        4 => prop::sample::select(vec![&b""[..], b"x", b"system_u:object_r:bin_t:s0\0"])
            .prop_map(<[u8]>::to_vec),
        4 => vec(any::<u8>(), 0..100),
        1 => vec(any::<u8>(), 4000..9000),
    ];
    let key = prop_oneof![
        1 => (2..=3u8).prop_map(|index| (index, Vec::new())),
        9 => (prop::sample::select(vec![0u8, 1, 1, 4, 4, 5, 6, 6]), name),
    ];
    (key, value)
}

fn object() -> impl Strategy<Value = Kind> {
    let digest = prop_oneof![
        Just(None),
        vec(any::<u8>(), 32).prop_map(Some),
        vec(any::<u8>(), 64).prop_map(Some),
    ];
    let component = name();
    (0..1u64 << 50, vec(component, 1..4), digest).prop_map(|(size, path, digest)| Kind::External {
        size,
        path: path.join(&b'/'),
        digest,
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Directory(BTreeMap::new())),
        4 => object(),
        2 => vec(any::<u8>(), 0..100).prop_map(Kind::Inline),
        1 => vec(any::<u8>(), 3000..=8192).prop_map(Kind::Inline),
        1 => (0..1u64 << 40).prop_map(Kind::Sparse),
        2 => vec(1..=255u8, 1..100).prop_map(Kind::Symlink),
        1 => vec(1..=255u8, 3000..=4095).prop_map(Kind::Symlink),
        1 => any::<u32>().prop_map(Kind::Char),
        1 => Just(Kind::Char(0)),
        1 => any::<u32>().prop_map(Kind::Block),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
    ]
}

fn file(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = File> {
    let id = prop_oneof![3 => 0..2000u32, 1 => any::<u32>()];
    let time = prop_oneof![
        3 => Just((EPOCH, EPOCH_NSEC)),
        1 => (any::<i64>(), 0..1_000_000_000u32),
    ];
    let xattrs = prop_oneof![1 => vec(xattr(), 0..1), 2 => vec(xattr(), 0..6)];
    (kind, 0..0o10000u16, id.clone(), id, time, xattrs).prop_map(
        |(kind, perm, uid, gid, (mtime, nsec), xattrs)| File {
            kind,
            perm,
            uid,
            gid,
            mtime,
            nsec,
            xattrs: xattrs.into_iter().collect(),
        },
    )
}

/// The time of many files, so that their inodes can be compact.
pub const EPOCH: i64 = -1000;
pub const EPOCH_NSEC: u32 = 123_456_789;

/// A tree of at most `max` files, with hard links.
pub fn tree(max: usize) -> impl Strategy<Value = Model> {
    let root = file(Just(Kind::Directory(BTreeMap::new())));
    let rest = vec((file(kind()), name(), any::<prop::sample::Index>()), 0..max);
    let links = vec(
        (
            name(),
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
        ),
        0..max / 8 + 1,
    );
    (root, rest, links).prop_map(|(root, rest, links)| {
        let mut files = vec![root];
        let mut directories = vec![0];
        let mut others = vec![];
        for (file, name, parent) in rest {
            let number = files.len();
            let parent = directories[parent.index(directories.len())];
            let directory = matches!(file.kind, Kind::Directory(_));
            let Kind::Directory(entries) = &mut files[parent].kind else {
                unreachable!()
            };
            if entries.contains_key(&name) {
                continue;
            }
            entries.insert(name, number);
            if directory {
                directories.push(number);
            } else {
                others.push(number);
            }
            files.push(file);
        }
        for (name, parent, target) in links {
            if others.is_empty() {
                break;
            }
            let parent = directories[parent.index(directories.len())];
            let target = others[target.index(others.len())];
            if let Kind::Directory(entries) = &mut files[parent].kind {
                entries.entry(name).or_insert(target);
            }
        }
        Model { files }
    })
}
