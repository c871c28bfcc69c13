// SPDX-License-Identifier: GPL-2.0

//! Changes to the composefs header and the EROFS superblock.

use crate::draft::Draft;

/// Position and width of the header's fields.
const HEADER: [(usize, usize); 8] = [
    (0, 4),
    (4, 4),
    (8, 4),
    (12, 4),
    (16, 4),
    (20, 4),
    (24, 4),
    (28, 4),
];

/// Position and width of the superblock's fields that have only a few accepted values.
const STRICT: [(usize, usize); 14] = [
    // magic, checksum, feature_compat
    (1024, 4),
    (1028, 4),
    (1032, 4),
    // blkszbits, sb_extslots
    (1036, 1),
    (1037, 1),
    // meta_blkaddr
    (1064, 4),
    // feature_incompat, available_compr_algs, extra_devices, devt_slotoff
    (1104, 4),
    (1108, 2),
    (1110, 2),
    (1112, 2),
    // dirblkbits, xattr_prefix_count
    (1114, 1),
    (1115, 1),
    // packed_nid, xattr_filter_reserved
    (1120, 8),
    (1128, 1),
];

/// Changes a field of the composefs header.
pub(crate) fn header(draft: &mut Draft<'_>) -> bool {
    // With a change to another field, most images cannot be mounted.
    if draft.once_in(2) {
        let likely = [0, 1, 2, 3];
        return draft.disturb(if draft.get(12, 4) < 2 { 12 } else { 8 }, 4, &likely);
    }
    match draft.pick(&HEADER) {
        Some((at, width)) => draft.disturb(at, width, &[]),
        None => false,
    }
}

/// Changes a field of the superblock.
pub(crate) fn superblock(draft: &mut Draft<'_>) -> bool {
    let blocks = draft.bytes.len() as u64 / 4096;
    let near = [blocks - blocks.min(1), blocks, blocks + 1, 0];
    match draft.below(8) {
        0 => match draft.pick(&STRICT) {
            Some((at, width)) => draft.disturb(at, width, &[]),
            None => false,
        },
        // feature_compat, xattr_filter_reserved
        1 if draft.once_in(2) => draft.disturb(1032, 4, &[0, 1, 2, 4, 6, 7]),
        1 => draft.disturb(1128, 1, &[]),
        // root_nid
        2 => {
            let nid = draft.inode().map_or(0, |inode| inode.nid);
            draft.disturb(1038, 2, &[nid, nid + 1, 35, 36])
        }
        // inos
        3 => draft.disturb(1040, 8, &[]),
        // epoch
        4 => draft.disturb(
            1048,
            8,
            &[1 << 63, i64::MAX as u64 - 1, u64::MAX - 0xffff_ffff],
        ),
        // fixed_nsec
        5 => draft.disturb(1056, 4, &[999_999_999, 1_000_000_000]),
        // blocks
        6 => draft.disturb(1060, 4, &near),
        // xattr_blkaddr
        _ => draft.disturb(1068, 4, &near),
    }
}
