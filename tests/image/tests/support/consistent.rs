// SPDX-License-Identifier: GPL-2.0

//! Checks that the results of the parser on a damaged image are consistent: different ways to read
//! the same thing must have the same result.
//!
//! Only for an image whose bytes do not change.

use std::ops::ControlFlow;

use composefs_image::{Content, Image, InodeLayout, LookupHint};

use super::memory::{xattr, Memory};

/// Largest number of reads of a directory or an inode.
const QUESTIONS: usize = 200;

/// An entry as read: name, inode number, cookie.
pub type Entry = (Vec<u8>, u64, u64);

/// Checks a directory: a lookup finds only listed names, whatever was looked up before, and reading
/// from any entry on gives the same entries as reading all of them. `entries` are the listed ones;
/// `complete` is whether the end was reached.
pub fn directory(image: &Image<Memory>, dir: &InodeLayout, entries: &[Entry], complete: bool) {
    let step = entries.len().div_ceil(QUESTIONS).max(1);
    let listed = |name: &[u8], nid| {
        entries
            .iter()
            .any(|entry| entry.0 == name && entry.1 == nid)
    };
    for (name, _, _) in entries.iter().step_by(step) {
        let Ok(Some(found)) = image.lookup(dir, name) else {
            continue;
        };
        // readdir leaves out whiteouts, also damaged ones.
        let hidden = || {
            image
                .inode(found.nid)
                .map_or(true, |inode| inode.is_whiteout())
        };
        assert!(
            !complete || listed(name, found.nid) || hidden(),
            "directory {}: {:?} leads to {}, but is not listed so",
            dir.nid(),
            name.escape_ascii().to_string(),
            found.nid
        );
    }
    look_ups(image, dir, entries);
    for (number, entry) in entries.iter().enumerate().step_by(step) {
        let mut pos = entry.2;
        let mut expected = entries[number..].iter().take(8);
        let _ = image.read_dir(dir, &mut pos, |dirent| match expected.next() {
            Some(entry) => {
                assert_eq!(
                    (dirent.name, dirent.nid, dirent.pos),
                    (&entry.0[..], entry.1, entry.2)
                );
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        });
        assert!(expected.next().is_none(), "entries are missing");
    }
    // A cookie inside of an entry stands for the next entry.
    for (first, second) in entries
        .iter()
        .zip(&entries[1.min(entries.len())..])
        .step_by(step)
    {
        let mut pos = first.2 + 1;
        let _ = image.read_dir(dir, &mut pos, |dirent| {
            assert_eq!(dirent.pos, second.2);
            ControlFlow::Break(())
        });
    }
}

/// Looks up names in order, in reverse and with gaps: each lookup has the same result as without
/// earlier ones.
fn look_ups(image: &Image<Memory>, dir: &InodeLayout, entries: &[Entry]) {
    let names = || entries.iter().map(|(name, ..)| name).take(2 * QUESTIONS);
    let mut near = LookupHint::default();
    let turns = names()
        .chain(names())
        .chain(names().rev())
        .chain(names().step_by(2))
        .chain(names());
    for name in turns {
        let alone = image.lookup(dir, name);
        let found = image.lookup_with_hint(dir, name, &mut near);
        assert_eq!(
            found,
            alone,
            "directory {}: {:?}, {near:?}",
            dir.nid(),
            name.escape_ascii().to_string()
        );
    }
}

/// Checks xattrs: the length without a buffer is that of the value, and no byte behind the value is
/// written.
pub fn xattrs(image: &Image<Memory>, layout: &InodeLayout, names: &[(u8, Vec<u8>)]) {
    for (index, name) in names.iter().take(20) {
        let Ok(Some(len)) = xattr(image, layout, *index, name, &mut []) else {
            continue;
        };
        let mut out = vec![0xaa; len + 1];
        assert_eq!(xattr(image, layout, *index, name, &mut out), Ok(Some(len)));
        assert_eq!(out.pop(), Some(0xaa));
        let mut exact = vec![0x55; len];
        assert_eq!(
            xattr(image, layout, *index, name, &mut exact),
            Ok(Some(len))
        );
        assert_eq!(out, exact);
    }
}

/// Checks data: reading all of it gives the same as reading it in pieces.
pub fn data(image: &Image<Memory>, layout: &InodeLayout) {
    let size = usize::try_from(layout.size()).unwrap();
    let mut whole = vec![0xaa; size + 1];
    assert_eq!(image.read(layout, 0, &mut whole), Ok(size));
    assert_eq!(whole.pop(), Some(0xaa));
    let mut pieces: Vec<u8> = vec![];
    while pieces.len() < size {
        let mut piece = vec![0; 1 + size / 7];
        let len = image.read(layout, pieces.len() as u64, &mut piece).unwrap();
        assert!(len > 0);
        pieces.extend(&piece[..len]);
    }
    assert_eq!(whole, pieces);
}

/// Checks a regular file: content() and redirect() must agree.
pub fn content(image: &Image<Memory>, layout: &InodeLayout) {
    let redirect = image.redirect(layout, &mut [0; 4096]);
    match image.content(layout) {
        Ok(Content::Inline) => data(image, layout),
        Ok(Content::Sparse) => assert_eq!(redirect, Ok(None)),
        // The path may be invalid, but it must exist.
        Ok(Content::External(_)) => assert_ne!(redirect, Ok(None)),
        Err(_) => (),
    }
}
