// SPDX-License-Identifier: GPL-2.0

//! Damaged images, failing reads and changing bytes: each call of the parser must return, after a
//! bounded number of reads and without a panic.

mod support;

use proptest::prelude::*;

use support::memory::{random, Memory};
use support::walk::walk;
use support::{model, writer};

/// Values that are often at a limit.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    3,
    4,
    11,
    12,
    31,
    32,
    255,
    4095,
    4096,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX / 2,
    u64::MAX,
];

/// Overwrites 1 to 8 bytes, mostly in a field of an inode or an entry.
fn mutate(bytes: &mut [u8], written: &[u64], state: &mut u64) {
    let width = 1 << (random(state) % 4);
    let at = match random(state) % 8 {
        0 => 1024 + random(state) % 128,
        // The fields of an inode, or the xattrs and inline data behind it.
        1..=4 => {
            let nid = written[random(state) as usize % written.len()];
            nid * 32 + random(state) % 200 / width * width
        }
        // The first bytes of a block: the entries, if it belongs to a directory.
        5..=6 => {
            let block = random(state) % (bytes.len() as u64 / 4096);
            block * 4096 + random(state) % 60
        }
        _ => random(state) % bytes.len() as u64,
    };
    let value = match random(state) % 3 {
        0 => EDGES[random(state) as usize % EDGES.len()],
        1 => random(state),
        // A number near the old one.
        _ => {
            let old = bytes.get(at as usize).copied().unwrap_or(0);
            u64::from(old)
                .wrapping_add(random(state) % 3)
                .wrapping_sub(1)
        }
    };
    for (to, from) in bytes
        .iter_mut()
        .skip(at as usize)
        .zip(value.to_le_bytes())
        .take(width as usize)
    {
        *to = from;
    }
}

proptest! {
    #![proptest_config(support::cases(40))]

    #[test]
    fn damaged_fields(tree in model::tree(30), options in writer::options(), seed: u64) {
        let written = writer::write(&tree, &options);
        let mut state = seed;
        for _ in 0..40 {
            let mut bytes = written.bytes.clone();
            for _ in 0..1 + random(&mut state) % 4 {
                mutate(&mut bytes, &written.nids, &mut state);
            }
            walk(Memory::new(bytes), 100);
        }
    }

    #[test]
    fn cut_short(tree in model::tree(20), options in writer::options(), seed: u64) {
        let mut written = writer::write(&tree, &options);
        // Let `blocks` match the shorter image, so that the superblock is accepted.
        written.bytes[1060..1064].fill(0);
        written.bytes[1068..1072].fill(0);
        let mut state = seed;
        for _ in 0..40 {
            let len = random(&mut state) as usize % written.bytes.len();
            walk(Memory::new(written.bytes[..len].to_vec()), 100);
        }
    }

    #[test]
    fn changing_bytes(tree in model::tree(30), options in writer::options(), seed: u64) {
        let written = writer::write(&tree, &options);
        let mut state = seed;
        for _ in 0..20 {
            let source = Memory::new(written.bytes.clone());
            source.noise.set(Some(random(&mut state)));
            walk(source, 100);
        }
    }

    /// Runs that are shorter than [`Source`](composefs_image::Source) allows.
    #[test]
    fn short_runs(tree in model::tree(30), options in writer::options(), seed: u64) {
        let written = writer::write(&tree, &options);
        let mut state = seed;
        for _ in 0..20 {
            let source = Memory::new(written.bytes.clone());
            source.short.set(Some(random(&mut state)));
            walk(source, 100);
        }
    }

    #[test]
    fn failing_reads(tree in model::tree(15), options in writer::options()) {
        let written = writer::write(&tree, &options);
        let whole = walk(Memory::new(written.bytes.clone()), 100);
        assert_eq!((whole.corrupt, whole.faults), (0, 0));
        // `walk` resets the count at each call, so that the nth run of each call fails.
        for number in 0..6 {
            let source = Memory::new(written.bytes.clone());
            source.fail.set(Some(number));
            let seen = walk(source, 100);
            assert_eq!(seen.corrupt, 0, "a failed read is not corruption");
            assert!(number > 1 || seen.faults > 0);
        }
    }
}

/// Random bytes behind a good superblock.
#[test]
fn noise() {
    let mut state = 1;
    for _ in 0..2000 {
        let mut bytes: Vec<u8> = (0..4 * 4096)
            .map(|_| random(&mut state) as u8 & 7)
            .collect();
        let (tree, options) = (one_directory(), plain_options());
        let good = writer::write(&tree, &options).bytes;
        bytes[..1024 + 128 + 64].copy_from_slice(&good[..1024 + 128 + 64]);
        bytes[1060..1064].fill(0);
        walk(Memory::new(bytes), 100);
    }
}

fn one_directory() -> model::Model {
    model::Model {
        files: vec![model::File {
            kind: model::Kind::Directory(Default::default()),
            perm: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            nsec: 0,
            xattrs: Default::default(),
        }],
    }
}

fn plain_options() -> writer::Options {
    writer::Options {
        version: 1,
        filter: true,
        compact: false,
        share: false,
        absolute: false,
        inline_max: 0,
        dirents_max: 340,
        gaps: vec![0],
    }
}
