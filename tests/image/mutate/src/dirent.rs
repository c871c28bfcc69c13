// SPDX-License-Identifier: GPL-2.0

//! Changes to directory entries.

use crate::draft::{Draft, BLOCK};
use crate::survey::{Block, Dirent};

const DIRENT: usize = 12;

/// Changes the nid of an entry.
pub(crate) fn nid(draft: &mut Draft<'_>) -> bool {
    let Some(dirent) = entry(draft) else {
        return false;
    };
    let survey = draft.survey;
    let other = draft.inode().map_or(0, |inode| inode.nid);
    let directory = draft.inode_of(0o040000).map_or(0, |inode| inode.nid);
    // The directory that the entry is in.
    let own = survey.inodes[survey.blocks[dirent.block].inode].nid;
    let root = draft.get(1038, 2);
    let end = (draft.bytes.len() / 32) as u64;
    let anywhere = draft.below(draft.bytes.len() / 32) as u64;
    let likely = [
        other,
        other,
        directory,
        directory,
        own,
        root,
        anywhere,
        other + 1,
        end - end.min(1),
        end,
        // In the superblock, just behind it, and where the position overflows.
        35,
        36,
        1 << 59,
        (1 << 59) + 40,
    ];
    draft.disturb(dirent.at, 8, &likely)
}

/// Changes a nameoff; that of the first entry is also the number of entries in the block.
pub(crate) fn offset(draft: &mut Draft<'_>) -> bool {
    let survey = draft.survey;
    if draft.once_in(2) {
        let Some(block) = draft.pick(&survey.blocks) else {
            return false;
        };
        let count = (block.entries * DIRENT) as u64;
        let likely = [
            0,
            12,
            11,
            count + 12,
            count.wrapping_sub(12),
            count + 1,
            4092,
            4096,
            block.len as u64,
            block.len as u64 / 12 * 12,
        ];
        return draft.disturb(block.at + 8, 2, &likely);
    }
    let (Some(dirent), Some(other)) = (entry(draft), entry(draft)) else {
        return false;
    };
    let block = survey.blocks[dirent.block];
    let likely = [
        // The nameoff of the next entry and of another one, and both ends.
        draft.get(dirent.at + DIRENT + 8, 2),
        draft.get(other.at + 8, 2),
        (block.entries * DIRENT) as u64,
        (block.entries * DIRENT) as u64 - 1,
        block.len as u64,
        block.len as u64 - 1,
        4095,
        4096,
    ];
    draft.disturb(dirent.at + 8, 2, &likely)
}

/// Changes the file_type of an entry.
pub(crate) fn file_type(draft: &mut Draft<'_>) -> bool {
    match entry(draft) {
        Some(dirent) => draft.disturb(dirent.at + 10, 1, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        None => false,
    }
}

/// Changes a name.
pub(crate) fn name(draft: &mut Draft<'_>) -> bool {
    let (Some(dirent), Some(other)) = (entry(draft), entry(draft)) else {
        return false;
    };
    let (at, len) = dirent.name;
    let survey = draft.survey;
    match draft.below(5) {
        0 => draft.write(at, &b".."[..len.min(2)]),
        // The same name twice, or a prefix of another name.
        1 => {
            let (from, most) = other.name;
            let Some(name) = draft.bytes.get(from..from + most.min(len)) else {
                return false;
            };
            let name = name.to_vec();
            draft.write(at, &name)
        }
        // The last name continues in the padding.
        2 => {
            let block: Block = survey.blocks[dirent.block];
            let end = (block.at + block.len).min(draft.bytes.len());
            let tail = &mut draft.bytes[at.min(end)..end];
            let changed = tail.contains(&0);
            tail.iter_mut()
                .filter(|byte| **byte == 0)
                .for_each(|byte| *byte = b'x');
            changed
        }
        _ => draft.disturb_byte(dirent.name, b"/\0.\xff "),
    }
}

/// Changes the order of entries, or of the blocks of a directory.
pub(crate) fn order(draft: &mut Draft<'_>) -> bool {
    let survey = draft.survey;
    let Some(one) = entry(draft) else {
        return false;
    };
    let block = survey.blocks[one.block];
    if draft.once_in(3) {
        let blocks: Vec<Block> = survey
            .blocks
            .iter()
            .filter(|other| other.inode == block.inode && other.at != block.at)
            .copied()
            .collect();
        if let Some(other) = draft.pick(&blocks) {
            return swap(draft, block.at, other.at, BLOCK);
        }
    }
    let other = block.at + draft.below(block.entries) * DIRENT;
    // Without their nameoff, names get other inodes; with it, the order is wrong.
    let width = if draft.once_in(2) { 8 } else { 10 };
    swap(draft, one.at, other, width)
}

fn swap(draft: &mut Draft<'_>, one: usize, other: usize, len: usize) -> bool {
    let (Some(first), Some(second)) = (
        draft.bytes.get(one..one + len).map(<[u8]>::to_vec),
        draft.bytes.get(other..other + len).map(<[u8]>::to_vec),
    ) else {
        return false;
    };
    draft.write(other, &first);
    draft.write(one, &second)
}

fn entry(draft: &mut Draft<'_>) -> Option<Dirent> {
    let survey = draft.survey;
    draft.pick(&survey.dirents)
}
