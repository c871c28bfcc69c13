// SPDX-License-Identifier: GPL-2.0

//! Changes to inodes.

use crate::draft::{Draft, BLOCK};

/// All values of the `S_IFMT` bits of a mode, defined and undefined.
const TYPES: [u64; 16] = [
    0o000000, 0o010000, 0o020000, 0o030000, 0o040000, 0o050000, 0o060000, 0o070000, 0o100000,
    0o110000, 0o120000, 0o130000, 0o140000, 0o150000, 0o160000, 0o170000,
];

/// Changes i_format: compact or extended, and the data layout.
pub(crate) fn format(draft: &mut Draft<'_>) -> bool {
    let Some(inode) = draft.inode() else {
        return false;
    };
    let old = draft.get(inode.at, 2);
    let value = match draft.below(4) {
        0 => old ^ 1,
        1 | 2 => old & 1 | (draft.below(8) as u64) << 1,
        _ => old ^ 1 << draft.below(16),
    };
    draft.put(inode.at, 2, value)
}

/// Changes the size.
pub(crate) fn size(draft: &mut Draft<'_>) -> bool {
    let Some(inode) = draft.inode() else {
        return false;
    };
    let width = if inode.extended { 8 } else { 4 };
    let rest = (draft.bytes.len() as u64).saturating_sub(inode.start * BLOCK as u64);
    let inline = (BLOCK - inode.tail() % BLOCK) as u64;
    let block = inode.size / BLOCK as u64 * BLOCK as u64;
    let likely = [
        // Up to the end of the image, and of the block that the inline data is in.
        rest,
        rest + 1,
        inline,
        inline + 1,
        inline + BLOCK as u64,
        inline + BLOCK as u64 + 1,
        // A block more, a block less, and a part of a block.
        block,
        block.wrapping_add(1),
        block.wrapping_add(12),
        block.wrapping_add(2 * BLOCK as u64),
        inode.size.wrapping_add(BLOCK as u64),
        inode.size.wrapping_add(12),
        inode.size.saturating_sub(12),
        // The longest symlink and the largest inline file that the parser accepts.
        4094,
        8192,
        8193,
        1 << 44,
        1 << 62,
        i64::MAX as u64 + 1,
    ];
    draft.disturb(inode.at + 8, width, &likely)
}

/// Changes the type or the permissions.
pub(crate) fn mode(draft: &mut Draft<'_>) -> bool {
    let Some(inode) = draft.inode() else {
        return false;
    };
    let old = draft.get(inode.at + 4, 2);
    let types = draft.pick(&TYPES).unwrap_or(0);
    draft.disturb(inode.at + 4, 2, &[old & 0o7777 | types, old ^ 0o7000])
}

/// Changes the number of links.
pub(crate) fn links(draft: &mut Draft<'_>) -> bool {
    match draft.inode() {
        Some(inode) if inode.extended => draft.disturb(inode.at + 44, 4, &[0]),
        Some(inode) => draft.disturb(inode.at + 6, 2, &[0]),
        None => false,
    }
}

/// Changes an owner or a time.
pub(crate) fn owner(draft: &mut Draft<'_>) -> bool {
    let Some(inode) = draft.inode() else {
        return false;
    };
    let (at, width) = match (inode.extended, draft.below(4)) {
        (true, 0) => (24, 4),
        (true, 1) => (28, 4),
        (true, 2) => (32, 8),
        (true, _) => (40, 4),
        (false, 0) => (24, 2),
        (false, 1) => (26, 2),
        (false, _) => (12, 4),
    };
    let likely = [1 << 63, 999_999_999, 1_000_000_000, 0xffff_fffe];
    draft.disturb(inode.at + at, width, &likely)
}

/// Changes i_u: the block of the data, the device number, or the chunk format.
pub(crate) fn start(draft: &mut Draft<'_>) -> bool {
    let (Some(inode), Some(other)) = (draft.inode(), draft.inode()) else {
        return false;
    };
    let blocks = (draft.bytes.len() / BLOCK) as u64;
    let likely = [
        0,
        other.start,
        other.nid / 128,
        inode.nid / 128,
        blocks.saturating_sub(1),
        blocks,
        // Positions that do not fit 32 bits, or 44.
        1 << 20,
        0xffff_ffff,
    ];
    draft.disturb(inode.at + 16, 4, &likely)
}

/// Changes the size of the xattr area.
pub(crate) fn xattr_count(draft: &mut Draft<'_>) -> bool {
    let Some(inode) = draft.inode() else {
        return false;
    };
    let to_block = (BLOCK - inode.xattrs.0 % BLOCK) / 4;
    let rest = draft.bytes.len().saturating_sub(inode.xattrs.0) / 4;
    let likely = [
        1,
        2,
        to_block as u64,
        to_block as u64 - to_block.min(2) as u64,
        rest.min(0xffff) as u64,
        rest.saturating_sub(2).min(0xffff) as u64,
        0xffff,
    ];
    draft.disturb(inode.at + 2, 2, &likely)
}
