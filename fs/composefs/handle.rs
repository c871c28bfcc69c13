// SPDX-License-Identifier: GPL-2.0

//! File handles.
//!
//! A nid is where in the image an inode is, so a forged one may point anywhere: to the bytes of a
//! small file that spell an inode with other rights, for instance. A handle is believed only if a
//! name in the directory that it holds leads to the inode, and one in its parent to that directory,
//! up to one that is known to be reached from the root.
//!
//! A handle also says in which block of the directory the name is, which may be forged too: it is
//! where to look first.

use crate::{
    fault,
    image::{
        self,
        FileType,
        Node,
        Source, //
    },
    inode::{
        self,
        Place, //
    },
    mount::Mounted,
    vfs::{
        export,
        inode::Inode,
        super_block::SuperBlock, //
    },
    Composefs, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// How far up the directories are followed: a path has no more components.
const DEPTH_MAX: usize = 2048;

impl export::Operations for Composefs {
    fn by_handle(
        sb: &SuperBlock<Self>,
        ino: u64,
        parent: Option<u64>,
        hint: u32,
    ) -> Result<ARef<Inode<Self>>> {
        // What is in memory was reached from the root, or by a handle that was believed.
        if let Some(inode) = sb.cached(ino) {
            return Ok(inode);
        }
        let image = sb.data().image();
        let mut left = image.source().size();
        let mut child = ino;
        let mut parent = match parent {
            Some(parent) => parent,
            None => image.parent(&directory(sb.data(), ino)?).map_err(stale)?,
        };
        let mut place = Place::default();
        for _ in 0..DEPTH_MAX {
            let dir = directory(sb.data(), parent)?;
            // Those of one path are different bytes of the image.
            left = left.checked_sub(dir.size()).ok_or(ESTALE)?;
            let first = child == ino;
            let block = find(sb.data(), &dir, child, if first { hint } else { 0 })?;
            let block = block.ok_or(ESTALE)?;
            if first {
                place = Place::new(parent, block);
            }
            child = parent;
            if is_known(sb, child) {
                // The next one from the same directory need not go further up.
                if child != place.directory {
                    drop(inode::get(sb, place.directory, Place::default())?);
                }
                return inode::get(sb, ino, place)?.ok_or(ESTALE);
            }
            parent = image.parent(&dir).map_err(stale)?;
        }
        Err(ESTALE)
    }

    fn parent_ino(inode: &Inode<Self>) -> Result<u64> {
        if !inode.is_dir() {
            return match inode::place_of(inode).directory {
                0 => Err(ESTALE),
                directory => Ok(directory),
            };
        }
        let image = inode.super_block().data().image();
        image
            .parent(&inode::node(inode))
            .map_err(|e| fault::of_image(inode, e))
    }

    fn hint(inode: &Inode<Self>, parent: u64) -> u32 {
        // A directory knows no more than its parent.
        if inode.is_dir() {
            return 0;
        }
        let place = inode::place_of(inode);
        if place.directory == parent {
            place.block
        } else {
            0
        }
    }
}

/// Whether the inode `nid` is known to be reached from the root.
fn is_known(sb: &SuperBlock<Composefs>, nid: u64) -> bool {
    nid == sb.data().image().superblock().root_nid || sb.cached(nid).is_some()
}

/// The inode `nid`, if it looks like a directory.
fn directory(mounted: &Mounted, nid: u64) -> Result<Node> {
    let inode = mounted.image().inode(nid).map_err(stale)?;
    match inode.file_type() {
        FileType::Directory => Ok(inode.node),
        _ => Err(ESTALE),
    }
}

/// Finds the block of the directory `dir` in which a name leads to the inode `nid`. Looks first at
/// the block `hint`, counted from 1, which may be any: another one costs time and nothing else.
fn find(mounted: &Mounted, dir: &Node, nid: u64, hint: u32) -> Result<Option<u64>> {
    let image = mounted.image();
    let leads = |number| match image.block_leads_to(dir, number, nid) {
        Ok(leads) => Ok(leads),
        // Others may be good, whichever is looked at first.
        Err(image::Error::Corrupt(_)) => Ok(false),
        Err(image::Error::Source(e)) => Err(e),
    };
    if let Some(number) = hint.checked_sub(1).map(u64::from) {
        if leads(number)? {
            return Ok(Some(number));
        }
    }
    for number in 0..dir.size().div_ceil(image::BLOCK_SIZE) {
        if leads(number)? {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Bytes that are not what a handle says are no damage of the image: the handle is wrong.
fn stale(error: image::Error<Error>) -> Error {
    match error {
        image::Error::Source(e) => e,
        image::Error::Corrupt(_) => ESTALE,
    }
}
