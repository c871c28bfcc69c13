// SPDX-License-Identifier: GPL-2.0

//! The inodes that a change affects.

use std::collections::HashSet;

use crate::survey::{Inode, Survey};

/// Images are compared in units of this many bytes.
const UNIT: usize = 32;

/// The inodes of a changed image, by whether a change affects them.
#[derive(Clone, Debug)]
pub struct Touched {
    /// Inodes with a change.
    changed: HashSet<u64>,
    /// Directories above these inodes.
    above: HashSet<u64>,
    /// Inodes without a change.
    others: HashSet<u64>,
}

impl Touched {
    pub(crate) fn new(survey: &Survey, old: &[u8], new: &[u8]) -> Self {
        let units = old.chunks(UNIT).zip(new.chunks(UNIT));
        let same: Vec<bool> = units.map(|(old, new)| old == new).collect();
        let is_changed = |(at, len): (usize, usize)| {
            let last = (at + len.max(1) - 1) / UNIT;
            (at / UNIT..=last).any(|unit| !same.get(unit).copied().unwrap_or(false))
        };
        let is_touched = |inode: &Inode| {
            let (data, _) = inode.data();
            let in_blocks = inode.layout == 0 || inode.layout == 4 && inode.size > 4096;
            let len = (inode.size as usize).min(old.len());
            is_changed((inode.at, inode.tail() - inode.at))
                || len > 0 && in_blocks && is_changed((data, len))
                || inode.layout == 4 && is_changed((inode.tail(), len % 4096))
        };
        let mut changed = HashSet::new();
        let mut others = HashSet::new();
        for inode in &survey.inodes {
            let set = if is_touched(inode) {
                &mut changed
            } else {
                &mut others
            };
            set.insert(inode.nid);
        }
        let mut above = HashSet::new();
        // Takes as many iterations as directories are deep.
        loop {
            let before = above.len();
            for dirent in &survey.dirents {
                let dir = survey.inodes[survey.blocks[dirent.block].inode].nid;
                if changed.contains(&dirent.nid) || above.contains(&dirent.nid) {
                    above.insert(dir);
                }
            }
            if above.len() == before {
                break;
            }
        }
        Self {
            changed,
            above,
            others,
        }
    }

    /// Whether this inode, its inline xattrs or its data was changed, or the original image has no
    /// such inode. Shared xattrs are not compared.
    pub fn is_changed(&self, nid: u64) -> bool {
        self.changed.contains(&nid) || !self.others.contains(&nid)
    }

    /// Whether this is a directory above a changed inode.
    pub fn is_above(&self, nid: u64) -> bool {
        self.above.contains(&nid)
    }
}
