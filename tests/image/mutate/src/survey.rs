// SPDX-License-Identifier: GPL-2.0

//! Finding the fields of an image.
//!
//! This does not use the parser under test. It accepts any bytes, and leaves out what it cannot
//! read.

use std::collections::HashSet;

use crate::bytes::get;

/// Largest number of inodes.
const INODES_MAX: usize = 1 << 15;
/// Largest number of blocks of directories.
const BLOCKS_MAX: usize = 1024;
/// Largest number of xattrs.
const XATTRS_MAX: usize = 1 << 15;
/// Largest number of whiteouts, of which some images have hundreds in their root.
const STUBS_MAX: usize = 8;

const BLOCK: usize = 4096;
const DIRENT: usize = 12;

/// Where the unit `number` is, if each has `size` bytes. What no image can have is far behind the
/// end, with room to add to it: on machines of 32 bits, too.
fn place(number: u64, size: usize) -> usize {
    const FAR: usize = usize::MAX / 4;
    let at = number.saturating_mul(size as u64);
    usize::try_from(at).map_or(FAR, |at| at.min(FAR))
}

/// An inode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inode {
    pub(crate) nid: u64,
    pub(crate) at: usize,
    pub(crate) extended: bool,
    /// The data layout: `i_format` without the bit for an extended inode.
    pub(crate) layout: u64,
    /// The `S_IFMT` bits of its mode.
    pub(crate) kind: u64,
    pub(crate) size: u64,
    /// `i_u`
    pub(crate) start: u64,
    /// Position and length of the xattr area, in bytes.
    pub(crate) xattrs: (usize, usize),
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dirent {
    pub(crate) at: usize,
    pub(crate) nid: u64,
    /// Position and length of the name.
    pub(crate) name: (usize, usize),
    /// Index of the block that it is in.
    pub(crate) block: usize,
}

/// A block of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) entries: usize,
    /// Index of the inode that it belongs to.
    pub(crate) inode: usize,
}

/// An xattr, inline or shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Xattr {
    pub(crate) at: usize,
    pub(crate) index: u64,
    /// Position and length of the name.
    pub(crate) name: (usize, usize),
    /// Position and length of the value.
    pub(crate) value: (usize, usize),
}

/// All fields of an image that can be reached from its root.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) dirents: Vec<Dirent>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) xattrs: Vec<Xattr>,
    /// Positions of the ids of shared xattrs.
    pub(crate) ids: Vec<usize>,
}

impl Survey {
    /// Reads an image.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut survey = Self::default();
        let shared_at = place(get(bytes, 1068, 4).unwrap_or(0), BLOCK);
        let mut known = HashSet::new();
        let mut shared = HashSet::new();
        let mut stubs = HashSet::new();
        let mut todo: Vec<u64> = get(bytes, 1038, 2).into_iter().collect();
        while let Some(nid) = todo.pop() {
            if survey.inodes.len() == INODES_MAX || !known.insert(nid) {
                continue;
            }
            let Some(inode) = Inode::read(bytes, nid) else {
                continue;
            };
            if inode.kind == 0o020000 && inode.start == 0 {
                stubs.insert(nid);
                if stubs.len() > STUBS_MAX {
                    continue;
                }
            }
            survey.inodes.push(inode);
            survey.add_xattrs(bytes, &inode, shared_at, &mut shared);
            if inode.kind == 0o040000 {
                let first = survey.dirents.len();
                survey.add_directory(bytes, &inode);
                todo.extend(survey.dirents[first..].iter().map(|dirent| dirent.nid));
            }
        }
        let mut left = STUBS_MAX;
        survey.dirents.retain(|dirent| {
            let keep = left > 0 || !stubs.contains(&dirent.nid);
            left -= usize::from(left > 0 && stubs.contains(&dirent.nid));
            keep
        });
        survey
    }

    fn add_directory(&mut self, bytes: &[u8], inode: &Inode) {
        for number in 0..inode.size.div_ceil(BLOCK as u64) {
            if self.blocks.len() == BLOCKS_MAX {
                break;
            }
            let rest = inode.size - number * BLOCK as u64;
            let len = rest.min(BLOCK as u64) as usize;
            let at = if inode.layout == 4 && rest <= BLOCK as u64 {
                inode.tail()
            } else {
                place(inode.start.saturating_add(number), BLOCK)
            };
            let entries = get(bytes, at + 8, 2).unwrap_or(0) as usize / DIRENT;
            for entry in 0..entries.min(BLOCK / DIRENT) {
                let dirent = at + entry * DIRENT;
                let (Some(nid), Some(start)) = (get(bytes, dirent, 8), get(bytes, dirent + 8, 2))
                else {
                    break;
                };
                let end = match get(bytes, dirent + DIRENT + 8, 2) {
                    Some(end) if entry + 1 < entries => end as usize,
                    _ => len,
                };
                let name = (at + start as usize, end.saturating_sub(start as usize));
                let block = self.blocks.len();
                self.dirents.push(Dirent {
                    at: dirent,
                    nid,
                    name,
                    block,
                });
            }
            let inode = self.inodes.len() - 1;
            self.blocks.push(Block {
                at,
                len,
                entries,
                inode,
            });
        }
    }

    fn add_xattrs(
        &mut self,
        bytes: &[u8],
        inode: &Inode,
        shared_at: usize,
        shared: &mut HashSet<usize>,
    ) {
        let (start, len) = inode.xattrs;
        if len == 0 {
            return;
        }
        let count = get(bytes, start + 4, 1).unwrap_or(0) as usize;
        let ids = start + 12;
        for at in (ids..).step_by(4).take(count) {
            let Some(id) = get(bytes, at, 4) else {
                break;
            };
            self.ids.push(at);
            let entry = shared_at + place(id, 4);
            if shared.insert(entry) {
                self.xattrs.extend(Xattr::read(bytes, entry));
            }
        }
        let mut at = ids + count * 4;
        while at < start + len && self.xattrs.len() < XATTRS_MAX {
            let Some(xattr) = Xattr::read(bytes, at) else {
                break;
            };
            at = (xattr.value.0 + xattr.value.1).next_multiple_of(4);
            self.xattrs.push(xattr);
        }
    }
}

impl Inode {
    fn read(bytes: &[u8], nid: u64) -> Option<Self> {
        let at = usize::try_from(nid.checked_mul(32)?).ok()?;
        let format = get(bytes, at, 2)?;
        let extended = format & 1 != 0;
        let header = at + if extended { 64 } else { 32 };
        let xattrs = match get(bytes, at + 2, 2)? as usize {
            0 => 0,
            count => 8 + 4 * count,
        };
        Some(Self {
            nid,
            at,
            extended,
            layout: format & !1,
            kind: get(bytes, at + 4, 2)? & 0o170000,
            size: get(bytes, at + 8, if extended { 8 } else { 4 })?,
            start: get(bytes, at + 16, 4)?,
            xattrs: (header, xattrs),
        })
    }

    /// The position of inline data or chunk indexes: behind the inode and its xattrs.
    pub(crate) fn tail(&self) -> usize {
        self.xattrs.0 + self.xattrs.1
    }

    /// Position and length of the first contiguous part of the data.
    pub(crate) fn data(&self) -> (usize, usize) {
        let len = self.size.min(2 * BLOCK as u64) as usize;
        match self.layout {
            0 => (place(self.start, BLOCK), len),
            4 if self.size <= BLOCK as u64 => (self.tail(), len),
            4 => (place(self.start, BLOCK), BLOCK),
            _ => (self.tail(), 4),
        }
    }
}

impl Xattr {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let name = get(bytes, at, 1)? as usize;
        let value = get(bytes, at + 2, 2)? as usize;
        Some(Self {
            at,
            index: get(bytes, at + 1, 1)?,
            name: (at + 4, name),
            value: (at + 4 + name, value),
        })
    }

    /// Whether this is the xattr `trusted.overlay.` + `name`.
    pub(crate) fn is_overlay(&self, bytes: &[u8], name: &[u8]) -> bool {
        let (at, len) = self.name;
        self.index == 4
            && bytes
                .get(at..at + len)
                .and_then(|stored| stored.strip_prefix(b"overlay."))
                == Some(name)
    }
}
