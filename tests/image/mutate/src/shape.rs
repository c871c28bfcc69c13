// SPDX-License-Identifier: GPL-2.0

//! Changes to the image as a whole: its end, its blocks, and any byte.

use rand::Rng as _;

use crate::draft::{Draft, BLOCK};

/// Changes the content of a symlink or an inline file, or the chunk indexes of another file.
pub(crate) fn data(draft: &mut Draft<'_>) -> bool {
    let kind = draft.pick(&[0o120000, 0o100000]).unwrap_or(0);
    match draft.inode_of(kind) {
        Some(inode) => draft.disturb_byte(inode.data(), b"\0/."),
        None => false,
    }
}

/// Truncates the image.
pub(crate) fn truncated(draft: &mut Draft<'_>) -> bool {
    let survey = draft.survey;
    let len = draft.bytes.len();
    // Without the data of the root, the image cannot be mounted.
    let root = survey.inodes.first().map_or(0, |inode| {
        let (at, _) = inode.data();
        at.saturating_add(inode.size as usize).min(len)
    });
    let at = match draft.below(8) {
        5.. => root + draft.below(len - root),
        0 => draft.inode().map_or(0, |inode| inode.at + 32),
        1 => draft.inode().map_or(0, |inode| inode.tail()),
        2 => draft.pick(&survey.blocks).map_or(0, |block| block.at),
        3 => len.saturating_sub(BLOCK),
        _ => draft.below(len),
    };
    // Not always at a boundary.
    let at = match draft.below(4) {
        0 => at + draft.below(64),
        1 => at.saturating_sub(draft.below(64)),
        _ => at,
    };
    draft.bytes.truncate(at);
    if !draft.once_in(6) {
        draft.set_blocks();
        // Keep xattr_blkaddr inside of the image, or the mount fails because of it.
        let blocks = (draft.bytes.len() / BLOCK) as u64;
        if draft.get(1068, 4) > blocks {
            draft.put(1068, 4, 0);
        }
    }
    draft.bytes.len() < len
}

/// Appends bytes to the image, whole blocks or not, and may set `blocks` to match.
pub(crate) fn extended(draft: &mut Draft<'_>) -> bool {
    let more = match draft.below(3) {
        0 => draft.below(BLOCK) + 1,
        _ => BLOCK * (draft.below(4) + 1),
    };
    let old = draft.bytes.len();
    draft.bytes.resize(old + more, 0);
    match draft.below(3) {
        0 => draft.random.fill(&mut draft.bytes[old..]),
        1 => draft.bytes[old..].fill(0xff),
        _ => (),
    }
    if draft.once_in(2) {
        draft.set_blocks();
    }
    true
}

/// Copies a part of another image, or of this one.
pub(crate) fn spliced(draft: &mut Draft<'_>) -> bool {
    let others = draft.others;
    let unit = draft.pick(&[32, 64, 512, BLOCK, BLOCK]).unwrap_or(BLOCK);
    let other = match draft.below(others.len() + 1).checked_sub(1) {
        Some(number) => &others[number].bytes,
        None => &draft.bytes.clone(),
    };
    let to = draft.below(draft.bytes.len() / unit) * unit;
    // The same position, which may hold the same kind of field, or another one.
    let from = match draft.below(2) {
        0 => to,
        _ => draft.below(other.len() / unit) * unit,
    };
    // Leave out the superblock: other kinds change it.
    let skip = 1152usize.saturating_sub(to).min(unit);
    match other.get(from + skip..from + unit) {
        Some(part) => draft.write(to + skip, part),
        None => false,
    }
}

/// Changes random bytes.
pub(crate) fn noise(draft: &mut Draft<'_>) -> bool {
    let mut changed = false;
    for _ in 0..=draft.below(16) {
        // Not in the header and the superblock, or most images could not be mounted.
        let len = draft.bytes.len().saturating_sub(1152);
        changed |= draft.disturb_byte((1152, len), b"");
    }
    changed
}
