// SPDX-License-Identifier: GPL-2.0

//! Compares the results of the parser with the model that the image was written from.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use composefs_image::{Content, Digest, Dirent, DiskInode, Image, InodeLayout, LookupHint};

use super::model::{Kind, Model};
use super::writer::{file_type, mode, stored_xattrs};
use super::{xattr, Memory};

/// An entry as read: name, inode number, raw file type, cookie.
pub type Entry = (Vec<u8>, u64, u8, u64);

/// Reads a directory from `pos` on, at most `limit` entries; returns them and the cookie.
pub fn list(
    image: &Image<Memory>,
    dir: &InodeLayout,
    mut pos: u64,
    limit: usize,
) -> (Vec<Entry>, u64) {
    let mut entries = vec![];
    image
        .read_dir(dir, &mut pos, |dirent: Dirent<'_>| {
            if entries.len() == limit {
                return ControlFlow::Break(());
            }
            entries.push((
                dirent.name.to_vec(),
                dirent.nid,
                dirent.file_type.as_raw(),
                dirent.pos,
            ));
            ControlFlow::Continue(())
        })
        .unwrap();
    (entries, pos)
}

/// Compares the whole image. `nids` are the inode numbers of the files.
pub fn compare(image: &Image<Memory>, model: &Model, nids: &[u64]) {
    let nlinks = model.nlinks();
    assert_eq!(image.superblock().root_nid, nids[0]);
    assert_eq!(image.superblock().inos, model.files.len() as u64);
    for (number, file) in model.files.iter().enumerate() {
        let inode = image.inode(nids[number]).unwrap();
        assert_eq!(inode.mode, mode(&file.kind) | file.perm);
        assert_eq!(inode.nlink, nlinks[number]);
        assert_eq!((inode.uid, inode.gid), (file.uid, file.gid));
        assert_eq!((inode.mtime, inode.mtime_nsec), (file.mtime, file.nsec));
        let rdev = match &file.kind {
            Kind::Char(rdev) | Kind::Block(rdev) => *rdev,
            _ => 0,
        };
        assert_eq!(inode.rdev, rdev);
        assert_eq!(inode.is_whiteout(), matches!(file.kind, Kind::Char(0)));
        assert_eq!(inode.file_type().as_raw(), file_type(&file.kind));
        assert_eq!(inode.layout.nid(), nids[number]);
        assert_eq!(inode.layout.size(), inode.size);
        // The part of InodeLayout that the kernel keeps is enough to read the inode.
        let layout = InodeLayout::new(inode.layout.nid(), inode.size, inode.layout.packed());
        xattrs(image, &layout, &stored_xattrs(file));
        match &file.kind {
            Kind::Directory(entries) => directory(image, model, nids, number, &layout, entries),
            Kind::Inline(content) => {
                assert_eq!(image.content(&layout), Ok(Content::Inline));
                data(image, &inode, content);
            }
            Kind::Symlink(target) => data(image, &inode, target),
            Kind::External { size, path, digest } => {
                assert_eq!(inode.size, *size);
                let Ok(Content::External(found)) = image.content(&layout) else {
                    panic!("not external");
                };
                assert_eq!(found.as_ref().map(Digest::as_bytes), digest.as_deref());
                if let Some(found) = found {
                    assert_eq!(found.algorithm().digest_len(), found.as_bytes().len());
                }
                let mut out = [0; 4096];
                assert_eq!(image.redirect(&layout, &mut out), Ok(Some(path.len())));
                assert_eq!(&out[..path.len()], path);
                assert!(image.redirect(&layout, &mut out[..path.len() - 1]).is_err());
            }
            Kind::Sparse(size) => {
                assert_eq!(inode.size, *size);
                assert_eq!(image.content(&layout), Ok(Content::Sparse));
                assert_eq!(image.redirect(&layout, &mut [0; 4096]), Ok(None));
            }
            _ => (),
        }
    }
}

fn data(image: &Image<Memory>, inode: &DiskInode, want: &[u8]) {
    assert_eq!(inode.size, want.len() as u64);
    let mut out = vec![0; want.len() + 20];
    assert_eq!(image.read(&inode.layout, 0, &mut out), Ok(want.len()));
    assert_eq!(&out[..want.len()], want);
    assert_eq!(image.read(&inode.layout, inode.size, &mut out), Ok(0));
    assert_eq!(image.read(&inode.layout, u64::MAX, &mut out), Ok(0));
    // Ranges that cross the ends of blocks and the start of the inline data.
    for pos in [1, want.len() / 2, 4090, 4096, 4100, 8191] {
        if pos < want.len() {
            let len = 20.min(want.len() - pos);
            assert_eq!(
                image.read(&inode.layout, pos as u64, &mut out[..20]),
                Ok(len)
            );
            assert_eq!(&out[..len], &want[pos..pos + len]);
        }
    }
}

fn xattrs(image: &Image<Memory>, layout: &InodeLayout, want: &BTreeMap<(u8, Vec<u8>), Vec<u8>>) {
    let mut names = vec![];
    image
        .xattrs(layout, |xattr| {
            names.push((xattr.index, xattr.name.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    names.sort();
    assert_eq!(names, want.keys().cloned().collect::<Vec<_>>());
    let mut calls = 0;
    image
        .xattrs(layout, |_| {
            calls += 1;
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(calls, want.len().min(1));

    let filter = image.xattr_filter(layout).unwrap();
    for ((index, name), value) in want {
        assert!(!filter.lacks::<Memory>(*index, name));
        let mut out = vec![0; value.len() + 1];
        assert_eq!(
            xattr(image, layout, *index, name, &mut []),
            Ok(Some(value.len()))
        );
        assert_eq!(
            xattr(image, layout, *index, name, &mut out),
            Ok(Some(value.len()))
        );
        assert_eq!(&out[..value.len()], value);
        if let Some(short) = value.len().checked_sub(1) {
            let mut out = vec![0xaa; short];
            assert_eq!(
                xattr(image, layout, *index, name, &mut out),
                Ok(Some(value.len()))
            );
            assert!(out.iter().all(|byte| *byte == 0xaa));
        }
        for absent in [
            (index ^ 1, name.clone()),
            (*index, [&name[..], b"x"].concat()),
            (*index, name[..name.len().saturating_sub(1)].to_vec()),
        ] {
            if !want.contains_key(&absent) {
                assert_eq!(xattr(image, layout, absent.0, &absent.1, &mut []), Ok(None));
            }
        }
    }
    assert_eq!(xattr(image, layout, 1, &[b'z'; 300], &mut []), Ok(None));
}

fn directory(
    image: &Image<Memory>,
    model: &Model,
    nids: &[u64],
    number: usize,
    layout: &InodeLayout,
    entries: &BTreeMap<Vec<u8>, usize>,
) {
    // Names: all of them, in order, without whiteouts.
    let (found, end) = list(image, layout, 0, usize::MAX);
    assert_eq!(end, layout.size());
    let parent = image.parent(layout).unwrap();
    let mut want: BTreeMap<Vec<u8>, (u64, u8)> = entries
        .iter()
        .map(|(name, child)| {
            (
                name.clone(),
                (nids[*child], file_type(&model.files[*child].kind)),
            )
        })
        .collect();
    want.insert(b".".to_vec(), (nids[number], 2));
    want.insert(b"..".to_vec(), (parent, 2));
    let whiteout = |name: &Vec<u8>| {
        entries
            .get(name)
            .is_some_and(|child| matches!(model.files[*child].kind, Kind::Char(0)))
    };
    let listed: Vec<_> = want
        .iter()
        .filter(|(name, _)| !whiteout(name))
        .map(|(name, (nid, file_type))| (name.clone(), *nid, *file_type))
        .collect();
    let seen: Vec<_> = found.iter().map(|e| (e.0.clone(), e.1, e.2)).collect();
    assert_eq!(seen, listed);
    for (name, child) in entries {
        if let Kind::Directory(_) = model.files[*child].kind {
            let child = image.inode(nids[*child]).unwrap();
            assert_eq!(image.parent(&child.layout), Ok(nids[number]), "{name:?}");
        }
    }

    // Lookups of present and of absent names, with a bounded number of runs.
    let blocks = layout.size().div_ceil(4096);
    let bound = u64::from(blocks.ilog2()) + 1;
    let lookup = |name: &[u8]| {
        let before = image.source().runs.get();
        let found = image.lookup(layout, name).unwrap();
        assert!(image.source().runs.get() - before <= bound);
        found.map(|found| (found.nid, found.file_type.as_raw()))
    };
    for (name, child) in &want {
        assert_eq!(lookup(name), Some(*child));
        for absent in [
            [&name[..], b"\x01"].concat(),
            [&name[..], b"\0"].concat(),
            [b"\x01", &name[..]].concat(),
            name[..name.len() - 1].to_vec(),
        ] {
            assert_eq!(lookup(&absent), want.get(&absent).copied());
        }
    }
    for absent in [&b""[..], b"\0", &[255; 255], &[255; 256], &[b'b'; 300]] {
        assert_eq!(lookup(absent), want.get(absent).copied());
    }
    look_up_near(image, layout, &want);

    // Only the block of an entry leads to its inode.
    for entry in found.iter().step_by(found.len() / 20 + 1) {
        for number in 0..blocks.min(40) {
            let leads = image.block_leads_to(layout, number, entry.1).unwrap();
            let named = |e: &&Entry| e.1 == entry.1 && e.3 / 4096 == number;
            let there = found.iter().filter(named);
            let there = there.filter(|e| !matches!(&e.0[..], b"." | b".."));
            assert_eq!(leads, there.count() > 0);
        }
    }
    assert!(image.block_leads_to(layout, blocks, nids[0]).is_err());
    assert!(image.block_leads_to(layout, u64::MAX, nids[0]).is_err());

    // Cookies: of each entry, behind each entry, and any other.
    for (index, entry) in found.iter().enumerate().step_by(found.len() / 20 + 1) {
        assert_eq!(list(image, layout, entry.3, usize::MAX).0, found[index..]);
        let (first, next) = list(image, layout, 0, index);
        assert_eq!(first, found[..index]);
        assert_eq!(next, entry.3);
    }
    let step = (layout.size() / 50 + 1) as usize;
    for pos in (0..layout.size() + 100).step_by(step) {
        let rest: Vec<_> = found
            .iter()
            .filter(|entry| entry.3 >= pos)
            .cloned()
            .collect();
        let (seen, end) = list(image, layout, pos, usize::MAX);
        assert_eq!(seen, rest);
        assert_eq!(end, pos.max(layout.size()));
    }
    assert_eq!(
        list(image, layout, u64::MAX, usize::MAX),
        (vec![], u64::MAX)
    );
    assert_eq!(list(image, layout, i64::MAX as u64, usize::MAX).0, vec![]);
}

/// Lookups with a remembered place: in order, and with a place that is wrong.
fn look_up_near(image: &Image<Memory>, dir: &InodeLayout, want: &BTreeMap<Vec<u8>, (u64, u8)>) {
    let blocks = dir.size().div_ceil(4096);
    let bound = u64::from(blocks.ilog2()) + 1;
    let look_up = |name: &[u8], near: &mut LookupHint| {
        let before = image.source().runs.get();
        let found = image.lookup_with_hint(dir, name, near).unwrap();
        let found = found.map(|found| (found.nid, found.file_type.as_raw()));
        (found, image.source().runs.get() - before)
    };
    let mut near = LookupHint::default();
    for (name, child) in want {
        let known = u64::from(near.ordered) == blocks;
        let before = near.ordered;
        let (found, runs) = look_up(name, &mut near);
        assert_eq!(found, Some(*child));
        // At most one more block is read, and the end of the block before it.
        assert!(runs <= bound + 2 && near.ordered <= before + 1);
        assert!(runs == 1 || !known);
    }
    // The first lookup follows no other.
    let seen = (want.len() as u64 - 1).min(blocks);
    assert_eq!(u64::from(near.ordered), seen);
    for (name, child) in want.iter().step_by(want.len() / 7 + 1) {
        for next in [
            0,
            1,
            12,
            4080,
            4095,
            4096,
            dir.size(),
            dir.size() * 2,
            u64::MAX,
        ] {
            for ordered in [0, near.ordered / 2, near.ordered, LookupHint::UNORDERED] {
                let mut astray = LookupHint { next, ordered };
                let (found, runs) = look_up(name, &mut astray);
                assert_eq!(found, Some(*child));
                assert!(runs <= bound + 3);
                let absent = [&name[..], b"\x01"].concat();
                let mut astray = LookupHint { next, ordered };
                let found = look_up(&absent, &mut astray).0;
                assert_eq!(found, want.get(&absent).copied());
            }
        }
    }
}
