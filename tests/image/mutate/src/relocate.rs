// SPDX-License-Identifier: GPL-2.0

//! Copies of inodes at places where no tool writes them, and with xattrs that no tool writes.

use rand::Rng as _;

use crate::draft::{Draft, BLOCK};
use crate::survey::Inode;

/// Copies an inode, with its xattrs and inline data, so that a part of it crosses the end of a
/// block or of the image.
pub(crate) fn moved(draft: &mut Draft<'_>) -> bool {
    let Some(inode) = draft.inode() else {
        return false;
    };
    let (at, len) = inode.xattrs;
    let area = draft.bytes.get(at..at + len).map(<[u8]>::to_vec);
    match area {
        Some(area) => place(draft, &inode, &area),
        None => false,
    }
}

/// Gives an inode a new xattr area.
pub(crate) fn forged(draft: &mut Draft<'_>) -> bool {
    // Mostly regular files, whose xattrs have the path and the digest of the object.
    let inode = if draft.once_in(2) {
        draft.inode_of(0o100000)
    } else {
        draft.inode()
    };
    let Some(inode) = inode else {
        return false;
    };
    let area = area(draft);
    place(draft, &inode, &area)
}

/// Appends a copy of `inode` with these xattrs to the image, and changes entries to its nid.
fn place(draft: &mut Draft<'_>, inode: &Inode, area: &[u8]) -> bool {
    let header = inode.xattrs.0 - inode.at;
    let tail = match inode.layout {
        4 => inode.size as usize % BLOCK,
        8 => 4,
        _ => 0,
    };
    let tail = tail.min(BLOCK);
    let Some(mut unit) = draft
        .bytes
        .get(inode.at..inode.at + header)
        .map(<[u8]>::to_vec)
    else {
        return false;
    };
    let count = match area.len() {
        0 => 0,
        len => (len - 8) / 4,
    };
    unit[2..4].copy_from_slice(&(count.min(0xffff) as u16).to_le_bytes());
    unit.extend(area);
    let data = inode.tail();
    unit.extend(draft.bytes.get(data..data + tail).unwrap_or_default());

    let base = draft.bytes.len().next_multiple_of(BLOCK);
    // Its offset in the block: its last byte is the last one of the block, or a part of the tail,
    // of the xattrs or of the inode itself is in the next block.
    let to_end = (BLOCK - unit.len() % BLOCK) / 32 * 32;
    let xattrs_to_end = (BLOCK - (header + area.len()) % BLOCK) / 32 * 32;
    let anywhere = draft.below(BLOCK / 32) * 32;
    let offsets = [
        to_end,
        to_end + 32,
        xattrs_to_end,
        xattrs_to_end + 32,
        BLOCK - 32,
        0,
        anywhere,
    ];
    let at = base + draft.pick(&offsets).unwrap_or(0);
    draft
        .bytes
        .resize((at + unit.len()).next_multiple_of(BLOCK), 0);
    draft.write(at, &unit);

    let nid = at as u64 / 32;
    let survey = draft.survey;
    // Changing one of several hard links makes that entry another inode.
    let only_one = draft.once_in(8);
    let mut changed = false;
    for dirent in survey
        .dirents
        .iter()
        .filter(|dirent| dirent.nid == inode.nid)
    {
        if !(changed && only_one) {
            changed |= draft.put(dirent.at, 8, nid);
        }
    }
    // The superblock has 16 bits for the nid of the root.
    if draft.get(1038, 2) == inode.nid && nid <= 0xffff {
        changed |= draft.put(1038, 2, nid);
    }
    match draft.below(6) {
        0 => draft.bytes.truncate(at + unit.len()),
        1 => {
            let less = draft.below(unit.len()) + 1;
            draft.bytes.truncate(at + unit.len() - less);
        }
        _ => (),
    }
    if !draft.once_in(10) {
        draft.set_blocks();
    }
    changed
}

/// Makes an xattr area.
fn area(draft: &mut Draft<'_>) -> Vec<u8> {
    let survey = draft.survey;
    let mut area = vec![0; 12];
    if draft.once_in(4) {
        draft.random.fill(&mut area[..4]);
    }
    let shared = match draft.below(6) {
        0 => 255,
        1 | 2 => draft.below(6),
        _ => 0,
    };
    let same = draft.once_in(2);
    let mut id = 0;
    for number in 0..shared {
        if number == 0 || !same {
            let known = draft.pick(&survey.ids).map(|at| draft.get(at, 4));
            let any = draft.below(draft.bytes.len() / 4) as u64;
            id = if draft.once_in(8) {
                any
            } else {
                known.unwrap_or(any)
            };
        }
        area.extend((id as u32).to_le_bytes());
    }
    area[4] = shared as u8;
    // As many xattrs as fit, with empty names and values.
    if draft.once_in(60) {
        let index = draft.pick(&[1, 4, 6]).unwrap_or(1);
        while area.len() + 4 <= 8 + 4 * 0xffff {
            area.extend([0, index, 0, 0]);
        }
        return area;
    }
    for _ in 0..draft.below(6) {
        let (index, name, value) = xattr(draft);
        area.extend([name.len() as u8, index]);
        area.extend((value.len() as u16).to_le_bytes());
        area.extend(&name);
        area.extend(&value);
        area.resize(area.len().next_multiple_of(4), 0);
    }
    area
}

/// Makes an xattr: name_index, name and value.
fn xattr(draft: &mut Draft<'_>) -> (u8, Vec<u8>, Vec<u8>) {
    let mut noise = |len: usize| {
        let mut bytes = vec![0; len];
        draft.random.fill(&mut bytes[..]);
        bytes
    };
    let digest = noise(64);
    let sizes = [0, 1, 4, 8, 20, 28, 36, 300, 4096];
    let any = noise(sizes[usize::from(digest[0]) % sizes.len()]);
    let digest = match draft.below(4) {
        0 => vec![],
        1 => [&[0, 36, 0, 1], &digest[..32]].concat(),
        2 => [&[0, 68, 0, 2], &digest[..]].concat(),
        _ => any.clone(),
    };
    match draft.below(9) {
        0 | 1 => (4, b"overlay.metacopy".to_vec(), digest),
        2 => (
            4,
            b"overlay.redirect".to_vec(),
            [b"/00/", &[b'a'; 62][..]].concat(),
        ),
        3 => (4, b"overlay.redirect".to_vec(), any),
        // Similar to an ACL: version 2, and entries of 8 bytes.
        4 => {
            let index = draft.pick(&[2, 3]).unwrap_or(2);
            (index, vec![], [&[2, 0, 0, 0], &any[..]].concat())
        }
        5 => (6, b"capability".to_vec(), any),
        6 => (4, [b"overlay.", &[b'o'; 247][..]].concat(), any),
        7 => (1, vec![b'n'; 255], vec![b'v'; 65535]),
        _ => (
            draft.pick(&[0, 1, 5, 6, 7, 0x80]).unwrap_or(1),
            b"x\0y".to_vec(),
            any,
        ),
    }
}
