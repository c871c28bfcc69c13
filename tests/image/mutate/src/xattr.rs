// SPDX-License-Identifier: GPL-2.0

//! Changes to extended attributes.

use crate::draft::Draft;
use crate::survey::{Inode, Xattr};

/// Values of name_index: the defined ones, the next one, and the bit of long prefixes.
const INDEXES: [u64; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 0x80, 0x84, 0xff];

/// Changes the header of an xattr area: the filter, or the number of shared xattrs.
pub(crate) fn header(draft: &mut Draft<'_>) -> bool {
    let Some(inode) = owner(draft) else {
        return false;
    };
    let (at, len) = inode.xattrs;
    if draft.once_in(3) {
        return draft.disturb(at, 4, &[0, 0xffff_ffff]);
    }
    let most = len.saturating_sub(12) / 4;
    draft.disturb(at + 4, 1, &[0, most as u64, most as u64 + 1, 255])
}

/// Changes the id of a shared xattr.
pub(crate) fn shared(draft: &mut Draft<'_>) -> bool {
    let survey = draft.survey;
    let (Some(at), Some(other)) = (draft.pick(&survey.ids), draft.pick(&survey.ids)) else {
        return false;
    };
    let start = draft.get(1068, 4) * 4096;
    let end = (draft.bytes.len() as u64).saturating_sub(start) / 4;
    let likely = [
        0,
        draft.get(other, 4),
        end,
        end.saturating_sub(1),
        1 << 30,
        0xffff_ffff,
    ];
    draft.disturb(at, 4, &likely)
}

/// Changes a length or the prefix of an xattr.
pub(crate) fn entry(draft: &mut Draft<'_>) -> bool {
    let Some(xattr) = any(draft) else {
        return false;
    };
    // The bytes up to the end of the block, and of the image.
    let block = (4096 - xattr.at % 4096) as u64;
    let rest = (draft.bytes.len() as u64).saturating_sub(xattr.at as u64 + 4);
    let name = xattr.name.1 as u64;
    match draft.below(3) {
        0 => draft.disturb(xattr.at, 1, &[0, 255, block, name + xattr.value.1 as u64]),
        1 => draft.disturb(xattr.at + 1, 1, &INDEXES),
        _ => {
            let likely = [
                0,
                1,
                4,
                36,
                68,
                69,
                block,
                rest.saturating_sub(name).min(0xffff),
                0xffff,
            ];
            draft.disturb(xattr.at + 2, 2, &likely)
        }
    }
}

/// Changes the name of an xattr.
pub(crate) fn name(draft: &mut Draft<'_>) -> bool {
    const NAMES: [&[u8]; 6] = [
        b"overlay.metacopy",
        b"overlay.redirect",
        b"overlay.opaque",
        b"overlay.overlay.",
        b"selinux",
        b"capability",
    ];
    let Some(xattr) = any(draft) else {
        return false;
    };
    if draft.once_in(2) {
        return draft.disturb_byte(xattr.name, b"\0./\xff");
    }
    let name = draft.pick(&NAMES).unwrap_or_default();
    let len = name.len().min(xattr.name.1);
    draft.write(xattr.name.0, &name[..len])
}

/// Changes the value of an xattr, often of an ACL, a capability or a label.
pub(crate) fn value(draft: &mut Draft<'_>) -> bool {
    let survey = draft.survey;
    // The kernel parses these values itself.
    let parsed: Vec<Xattr> = survey
        .xattrs
        .iter()
        .filter(|xattr| matches!(xattr.index, 2 | 3 | 6))
        .copied()
        .collect();
    let xattr = if draft.once_in(2) {
        draft.pick(&parsed)
    } else {
        any(draft)
    };
    match xattr {
        Some(xattr) => draft.disturb_byte(xattr.value, b"\0\x01\x02\xff"),
        None => false,
    }
}

/// Changes the value of a metacopy xattr: the header or the digest.
pub(crate) fn metacopy(draft: &mut Draft<'_>) -> bool {
    let Some(xattr) = overlay(draft, b"metacopy") else {
        return false;
    };
    let (at, len) = xattr.value;
    match draft.below(3) {
        // version, len, flags, algo
        0 if len >= 4 => draft.disturb_byte((at, 4), &[0, 1, 2, 3, 4, 36, 68, 255]),
        0 | 1 => draft.disturb(xattr.at + 2, 2, &[0, 1, 3, 4, 35, 36, 37, 68, 69]),
        _ => draft.disturb_byte(xattr.value, b""),
    }
}

/// Changes the value of a redirect xattr.
pub(crate) fn redirect(draft: &mut Draft<'_>) -> bool {
    const PATHS: [&[u8]; 9] = [
        b"/",
        b"//",
        b"/.",
        b"/..",
        b"/../../../../../../etc/passwd",
        b"/a/../../b",
        b"a",
        b"/\0",
        b"/a/",
    ];
    let Some(xattr) = overlay(draft, b"redirect") else {
        return false;
    };
    let (at, len) = xattr.value;
    match draft.below(4) {
        0 => {
            let path = draft.pick(&PATHS).unwrap_or_default();
            let path = &path[..path.len().min(len)];
            // Ends there, or continues with the old path.
            let end = draft.once_in(2) && draft.put(xattr.at + 2, 2, path.len() as u64);
            draft.write(at, path) || end
        }
        // Only the first component, nothing, or too many bytes.
        1 => draft.disturb(xattr.at + 2, 2, &[0, 1, 3, 4, 255, 256, 4095, 4096, 4097]),
        _ => draft.disturb_byte(xattr.value, b"\0/."),
    }
}

fn any(draft: &mut Draft<'_>) -> Option<Xattr> {
    let survey = draft.survey;
    draft.pick(&survey.xattrs)
}

/// Picks an xattr `trusted.overlay.` + `name`.
fn overlay(draft: &mut Draft<'_>, name: &[u8]) -> Option<Xattr> {
    let survey = draft.survey;
    let some: Vec<Xattr> = survey
        .xattrs
        .iter()
        .filter(|xattr| xattr.is_overlay(&draft.bytes, name))
        .copied()
        .collect();
    draft.pick(&some)
}

/// Picks an inode that has xattrs.
fn owner(draft: &mut Draft<'_>) -> Option<Inode> {
    let survey = draft.survey;
    let some: Vec<Inode> = survey
        .inodes
        .iter()
        .filter(|inode| inode.xattrs.1 != 0)
        .copied()
        .collect();
    draft.pick(&some)
}
