// SPDX-License-Identifier: GPL-2.0

//! Writes an image of a model, with more options than any tool has.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Kind, Model, EPOCH, EPOCH_NSEC};

/// Choices that the format leaves to the writer.
#[derive(Clone, Debug)]
pub struct Options {
    pub version: u32,
    /// xattr filters are turned on.
    pub filter: bool,
    /// Compact inodes where they fit.
    pub compact: bool,
    /// xattrs that occur more than once are shared.
    pub share: bool,
    /// Ids of shared xattrs count from the start of the image.
    pub absolute: bool,
    /// The tail of data is inline if it is at most this long, in bytes.
    pub inline_max: usize,
    /// Largest number of entries in a block of a directory.
    pub dirents_max: usize,
    /// Numbers of unused slots before inodes, in turn, which move inodes to any place in a block.
    pub gaps: Vec<u8>,
}

pub fn options() -> impl Strategy<Value = Options> {
    (
        0..=2u32,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::sample::select(vec![0usize, 64, 2048, 4000]),
        prop::sample::select(vec![1usize, 2, 5, 340]),
        prop_oneof![Just(vec![0]), vec(0..4u8, 1..9), vec(0..130u8, 1..9)],
    )
        .prop_map(
            |(version, filter, compact, share, absolute, inline_max, dirents_max, gaps)| Options {
                version,
                filter,
                compact,
                share,
                absolute,
                inline_max,
                dirents_max,
                gaps,
            },
        )
}

/// An image, and the nid of each file.
pub struct Written {
    pub bytes: Vec<u8>,
    pub nids: Vec<u64>,
}

fn u16s(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap().to_le_bytes()
}

fn u32s(value: usize) -> [u8; 4] {
    u32::try_from(value).unwrap().to_le_bytes()
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn entry(key: &(u8, Vec<u8>), value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(key.1.len()).unwrap(), key.0];
    bytes.extend(u16s(value.len()));
    bytes.extend(&key.1);
    bytes.extend(value);
    pad(&mut bytes, 4);
    bytes
}

pub fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::Directory(_) => 2,
        Kind::Inline(_) | Kind::External { .. } | Kind::Sparse(_) => 1,
        Kind::Symlink(_) => 7,
        Kind::Char(_) => 3,
        Kind::Block(_) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
    }
}

pub fn mode(kind: &Kind) -> u16 {
    match file_type(kind) {
        1 => 0o100000,
        2 => 0o040000,
        3 => 0o020000,
        4 => 0o060000,
        5 => 0o010000,
        6 => 0o140000,
        _ => 0o120000,
    }
}

type Xattrs = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// All xattrs of a file, with metacopy and redirect.
pub fn stored_xattrs(file: &super::model::File) -> Xattrs {
    let mut xattrs = file.xattrs.clone();
    let metacopy = (4, b"overlay.metacopy".to_vec());
    let redirect = (4, b"overlay.redirect".to_vec());
    match &file.kind {
        Kind::External { path, digest, .. } => {
            let value = digest.as_ref().map_or(vec![], |digest| {
                let algorithm = if digest.len() == 32 { 1 } else { 2 };
                let mut value = vec![0, 4 + digest.len() as u8, 0, algorithm];
                value.extend(digest);
                value
            });
            xattrs.insert(metacopy, value);
            xattrs.insert(redirect, [b"/", &path[..]].concat());
        }
        Kind::Sparse(_) => {
            xattrs.insert(metacopy, vec![]);
        }
        _ => (),
    }
    xattrs
}

/// Splits the entries of a directory into blocks. An entry is a name and a file.
fn split(options: &Options, entries: &BTreeMap<Vec<u8>, usize>) -> Vec<Vec<(Vec<u8>, usize)>> {
    let mut blocks: Vec<Vec<(Vec<u8>, usize)>> = vec![];
    let mut size = usize::MAX;
    for (name, number) in entries {
        let more = 12 + name.len();
        match blocks.last_mut() {
            Some(block) if size + more <= 4096 && block.len() < options.dirents_max => {
                size += more;
                block.push((name.clone(), *number));
            }
            _ => {
                size = more;
                blocks.push(vec![(name.clone(), *number)]);
            }
        }
    }
    blocks
}

/// The parts of an inode that do not depend on the places of other inodes.
struct Plan {
    compact: bool,
    own: Xattrs,
    shared: Vec<usize>,
    filter: u32,
    /// The blocks of a directory.
    dirents: Vec<Vec<(Vec<u8>, usize)>>,
    size: u64,
    /// Data in the image: full blocks, and the inline tail.
    blocks: usize,
    tail: usize,
    layout: u16,
}

impl Plan {
    fn header(&self) -> usize {
        if self.compact {
            32
        } else {
            64
        }
    }

    fn xattr_size(&self) -> usize {
        if self.own.is_empty() && self.shared.is_empty() {
            return 0;
        }
        let own: usize = self.own.iter().map(|(k, v)| entry(k, v).len()).sum();
        12 + 4 * self.shared.len() + own
    }
}

/// Writes an image of `model`.
pub fn write(model: &Model, options: &Options) -> Written {
    let nlinks = model.nlinks();
    let mut parents = vec![0; model.files.len()];
    for (number, file) in model.files.iter().enumerate() {
        if let Kind::Directory(entries) = &file.kind {
            for child in entries.values() {
                parents[*child] = number;
            }
        }
    }

    // Choose the xattrs to share.
    let all: Vec<Xattrs> = model.files.iter().map(stored_xattrs).collect();
    let mut count = BTreeMap::new();
    for (key, value) in all.iter().flatten() {
        *count.entry((key.clone(), value.clone())).or_insert(0) += 1;
    }
    let shared: Vec<_> = count
        .into_iter()
        .filter(|(_, count)| options.share && *count > 1)
        .map(|(xattr, _)| xattr)
        .collect();

    let plans: Vec<Plan> = model
        .files
        .iter()
        .enumerate()
        .map(|(number, file)| {
            let mut filter = u32::MAX;
            let mut plan = Plan {
                compact: false,
                own: Xattrs::new(),
                shared: vec![],
                filter: 0,
                dirents: vec![],
                size: 0,
                blocks: 0,
                tail: 0,
                layout: 0,
            };
            for (key, value) in &all[number] {
                let seed = 0x25bb_e08f + u32::from(key.0);
                filter &= !(1 << (xxhash_rust::xxh32::xxh32(&key.1, seed) % 32));
                match shared.iter().position(|s| s.0 == *key && s.1 == *value) {
                    Some(number) => plan.shared.push(number),
                    None => {
                        plan.own.insert(key.clone(), value.clone());
                    }
                }
            }
            // Without the feature, the filter may have any value.
            plan.filter = if options.filter { filter } else { u32::MAX };
            let data = match &file.kind {
                Kind::Directory(entries) => {
                    let mut entries = entries.clone();
                    entries.insert(b".".to_vec(), number);
                    entries.insert(b"..".to_vec(), parents[number]);
                    plan.dirents = split(options, &entries);
                    let last: usize = plan
                        .dirents
                        .last()
                        .unwrap()
                        .iter()
                        .map(|e| 12 + e.0.len())
                        .sum();
                    (plan.dirents.len() - 1) * 4096 + last
                }
                Kind::Inline(data) | Kind::Symlink(data) => data.len(),
                Kind::External { size, .. } | Kind::Sparse(size) => {
                    plan.size = *size;
                    plan.layout = 4;
                    // One chunk.
                    plan.tail = 4;
                    0
                }
                _ => 0,
            };
            if plan.layout != 4 {
                plan.size = data as u64;
                plan.blocks = data.div_ceil(4096);
                let tail = (data + 4095) % 4096 + 1;
                if data > 0 && tail <= options.inline_max {
                    plan.layout = 2;
                    plan.tail = tail;
                    plan.blocks -= 1;
                }
            }
            plan.compact = options.compact
                && file.mtime >= EPOCH
                && file.mtime - EPOCH <= i64::from(u32::MAX)
                && file.nsec == EPOCH_NSEC
                && file.uid <= 0xffff
                && file.gid <= 0xffff
                && nlinks[number] <= 0xffff
                && plan.size <= u64::from(u32::MAX);
            plan
        })
        .collect();

    // Place the inodes, the shared xattrs and the blocks.
    let mut pos: usize = 1024 + 128;
    let mut gaps = options.gaps.iter().cycle();
    let mut at = vec![];
    for plan in &plans {
        pos = pos.next_multiple_of(32) + 32 * usize::from(*gaps.next().unwrap());
        let tail = |pos| pos + plan.header() + plan.xattr_size();
        while plan.layout == 2 && tail(pos) % 4096 + plan.tail > 4096 {
            pos += 32;
        }
        at.push(pos);
        pos = tail(pos) + plan.tail;
    }
    pos = pos.next_multiple_of(32);
    let xattr_block = if options.absolute { 0 } else { pos / 4096 };
    let mut ids = vec![];
    for (key, value) in &shared {
        ids.push((pos - xattr_block * 4096) / 4);
        pos += entry(key, value).len();
    }
    pos = pos.next_multiple_of(4096);
    let mut start = vec![];
    for plan in &plans {
        start.push(pos / 4096);
        pos += plan.blocks * 4096;
    }

    let mut bytes = vec![0; pos];
    let mut put = |pos: usize, data: &[u8]| bytes[pos..pos + data.len()].copy_from_slice(data);
    put(0, &u32s(0xd078_629a));
    put(4, &u32s(1));
    put(12, &u32s(options.version as usize));
    put(1024, &u32s(0xe0f5_e1e2));
    put(1032, &u32s(if options.filter { 6 } else { 2 }));
    put(1036, &[12]);
    put(1038, &u16s(at[0] / 32));
    put(1040, &(plans.len() as u64).to_le_bytes());
    put(1048, &EPOCH.to_le_bytes());
    put(1056, &EPOCH_NSEC.to_le_bytes());
    put(1060, &u32s(pos / 4096));
    put(1068, &u32s(xattr_block));
    for (id, (key, value)) in ids.iter().zip(&shared) {
        put(xattr_block * 4096 + id * 4, &entry(key, value));
    }

    for (number, (plan, file)) in plans.iter().zip(&model.files).enumerate() {
        let format = (plan.layout << 1) | u16::from(!plan.compact);
        let icount = match plan.xattr_size() {
            0 => 0,
            size => (size - 12) / 4 + 1,
        };
        let mode = mode(&file.kind) | file.perm;
        let u = match &file.kind {
            Kind::Char(rdev) | Kind::Block(rdev) => *rdev as usize,
            _ if plan.layout == 4 => 31,
            _ => start[number],
        };
        let mut inode = vec![];
        inode.extend(format.to_le_bytes());
        inode.extend(u16s(icount));
        inode.extend(mode.to_le_bytes());
        if plan.compact {
            inode.extend(u16s(nlinks[number] as usize));
            inode.extend(u32s(plan.size as usize));
            inode.extend(u32s((file.mtime - EPOCH) as usize));
            inode.extend(u32s(u));
            inode.extend(u32s(number));
            inode.extend(u16s(file.uid as usize));
            inode.extend(u16s(file.gid as usize));
            inode.extend([0; 4]);
        } else {
            inode.extend([0; 2]);
            inode.extend(plan.size.to_le_bytes());
            inode.extend(u32s(u));
            inode.extend(u32s(number));
            inode.extend(file.uid.to_le_bytes());
            inode.extend(file.gid.to_le_bytes());
            inode.extend(file.mtime.to_le_bytes());
            inode.extend(file.nsec.to_le_bytes());
            inode.extend(nlinks[number].to_le_bytes());
            inode.extend([0; 16]);
        }
        if plan.xattr_size() > 0 {
            inode.extend(plan.filter.to_le_bytes());
            inode.push(u8::try_from(plan.shared.len()).unwrap());
            inode.extend([0; 7]);
            for number in &plan.shared {
                inode.extend(u32s(ids[*number]));
            }
            for (key, value) in &plan.own {
                inode.extend(entry(key, value));
            }
        }

        let data = match &file.kind {
            Kind::Directory(_) => {
                let mut data = vec![];
                for block in &plan.dirents {
                    pad(&mut data, 4096);
                    let mut offset = 12 * block.len();
                    for (name, number) in block {
                        data.extend((at[*number] as u64 / 32).to_le_bytes());
                        data.extend(u16s(offset));
                        data.extend([file_type(&model.files[*number].kind), 0]);
                        offset += name.len();
                    }
                    for (name, _) in block {
                        data.extend(name);
                    }
                }
                data
            }
            Kind::Inline(data) | Kind::Symlink(data) => data.clone(),
            _ => vec![],
        };
        match plan.layout {
            0 => put(start[number] * 4096, &data),
            2 => {
                let (blocks, tail) = data.split_at(plan.blocks * 4096);
                put(start[number] * 4096, blocks);
                inode.extend(tail);
            }
            _ => inode.extend([0xff; 4]),
        }
        put(at[number], &inode);
    }
    Written {
        bytes,
        nids: at.iter().map(|pos| *pos as u64 / 32).collect(),
    }
}
