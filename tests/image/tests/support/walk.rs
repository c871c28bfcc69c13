// SPDX-License-Identifier: GPL-2.0

//! Calls every function of the parser on an image that may be damaged.

use std::collections::HashSet;
use std::ops::ControlFlow;

use composefs_image::overlay::Escapes;
use composefs_image::{overlay, Content, Error, FileType, Image, InodeLayout};

use super::consistent;
use super::memory::{xattr, Fault, Memory};

/// Numbers of what a walk has found.
#[derive(Debug, Default)]
pub struct Seen {
    pub inodes: u64,
    pub entries: u64,
    pub external: u64,
    pub corrupt: u64,
    pub faults: u64,
}

impl Seen {
    /// Returns the value, or counts the error.
    fn ok<T>(&mut self, result: Result<T, Error<Fault>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::Corrupt(corrupt)) => {
                assert!(!corrupt.what.is_empty());
                self.corrupt += 1;
                None
            }
            Err(Error::Source(Fault)) => {
                self.faults += 1;
                None
            }
        }
    }
}

/// Walks an image from its root, at most `limit` inodes. Each call of the parser must end within a
/// number of runs that depends on its arguments only.
pub fn walk(source: Memory, limit: usize) -> Seen {
    let mut seen = Seen::default();
    let size = source.bytes.len() as u64;
    let blocks = size.div_ceil(4096) + 1;
    let Some(image) = seen.ok(Image::open(source)) else {
        return seen;
    };
    let runs = |bound: u64| {
        let count = image.source().runs.replace(0);
        assert!(count <= bound, "{count} runs, {bound} are enough");
    };
    runs(3);
    let steady = image.source().is_steady();
    let mut todo = vec![image.superblock().root_nid];
    let mut known = HashSet::new();
    while let Some(nid) = todo.pop() {
        if known.len() == limit || !known.insert(nid) {
            continue;
        }
        let inode = seen.ok(image.inode(nid));
        runs(2);
        let Some(inode) = inode else {
            continue;
        };
        seen.inodes += 1;
        assert!(inode.nlink > 0 && inode.mtime_nsec < 1_000_000_000);
        let layout = InodeLayout::new(nid, inode.size, inode.layout.packed());

        let mut names = vec![];
        seen.ok(image.xattrs(&layout, |xattr| {
            assert!(xattr.name.len() <= 255 && !xattr.name.contains(&0));
            names.push((xattr.index, xattr.name.to_vec()));
            ControlFlow::Continue(())
        }));
        // The area has at most 64 blocks and 255 shared ids. A name may cross a block.
        let xattr_runs = 2 * 66 + 3 * 256;
        runs(xattr_runs);
        let mut out = vec![0; 70000];
        for (index, name) in names.iter().take(20) {
            if let Some(Some(len)) = seen.ok(xattr(&image, &layout, *index, name, &mut out)) {
                assert!(len <= 65535);
            }
            runs(xattr_runs + 18);
            overlay::visible(*index, name, Escapes::Removed);
            overlay::visible(*index, name, Escapes::Kept);
        }
        if steady {
            consistent::xattrs(&image, &layout, &names);
            image.source().runs.set(0);
        }

        match inode.file_type() {
            FileType::Unknown => panic!("inode without a type"),
            FileType::Directory => {
                // The whole image, and the inline tail once more.
                assert!(inode.size <= size + 4096);
                let mut pos = 0;
                let mut entries = vec![];
                let complete = seen.ok(image.read_dir(&layout, &mut pos, |dirent| {
                    assert!((1..=255).contains(&dirent.name.len()));
                    assert!(!dirent.name.contains(&0) && !dirent.name.contains(&b'/'));
                    entries.push((dirent.name.to_vec(), dirent.nid, dirent.pos));
                    ControlFlow::Continue(())
                }));
                assert!(pos <= inode.size);
                runs(inode.size.div_ceil(4096) + inode.size / 12);
                if steady {
                    consistent::directory(&image, &layout, &entries, complete.is_some());
                    image.source().runs.set(0);
                }
                // Damaged directories may be as large as the image, and there may be many.
                for (name, child, _) in entries.into_iter().take(2000) {
                    seen.entries += 1;
                    seen.ok(image.lookup(&layout, &name));
                    runs(u64::from(blocks.ilog2()) + 2);
                    todo.push(child);
                }
                seen.ok(image.lookup(&layout, b"no such name"));
                seen.ok(image.parent(&layout));
                runs(2 * u64::from(blocks.ilog2()) + 4);
                for pos in [1, 4095, 5000, inode.size.wrapping_sub(1), u64::MAX] {
                    let mut pos = pos;
                    seen.ok(image.read_dir(&layout, &mut pos, |_| ControlFlow::Break(())));
                }
                image.source().runs.set(0);
            }
            FileType::Symlink => {
                assert!((1..=4095).contains(&inode.size));
                seen.ok(image.read(&layout, 0, &mut out));
                runs(3);
                if steady {
                    consistent::data(&image, &layout);
                    image.source().runs.set(0);
                }
            }
            FileType::Regular => {
                let content = seen.ok(image.content(&layout));
                runs(2 * xattr_runs + 2);
                let read = image.read(&layout, inode.size / 2, &mut out);
                runs(20);
                match content {
                    Some(Content::Inline) => {
                        assert!(inode.size <= 8192);
                        seen.ok(read);
                    }
                    Some(Content::External(_)) => seen.external += 1,
                    // No data was read.
                    Some(Content::Sparse) | None => (),
                }
                if let Some(Some(len)) = seen.ok(image.redirect(&layout, &mut out[..4096])) {
                    assert!(len > 0 && !out[..len].starts_with(b"/"));
                }
                runs(xattr_runs + 4);
                if steady {
                    consistent::content(&image, &layout);
                    image.source().runs.set(0);
                }
            }
            _ => (),
        }
    }
    seen
}
