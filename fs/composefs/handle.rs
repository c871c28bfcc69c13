// SPDX-License-Identifier: GPL-2.0

//! File handles.
//!
//! A nid is where in the image an inode is, so a forged one may point anywhere: to the bytes of a
//! small file that spell an inode with other rights, for instance. A handle is believed only if the
//! directory that it names holds the inode, and if that directory is in turn held by its parent, up
//! to one that is known to be reached from the root.

use crate::{
    fault,
    image::{
        self,
        FileType,
        Node,
        Source, //
    },
    inode,
    mount::Mounted,
    vfs::{
        export,
        inode::Inode,
        super_block::SuperBlock, //
    },
    Composefs, //
};
use core::ops::ControlFlow;
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
        let named = parent;
        for _ in 0..DEPTH_MAX {
            if is_known(sb, child) {
                // It has become known meanwhile, or the first step up found that this is right.
                let directory = if child == ino { 0 } else { named };
                return inode::get(sb, ino, directory)?.ok_or(ESTALE);
            }
            let dir = directory(sb.data(), parent)?;
            // Those of one path are different bytes of the image.
            left = left.checked_sub(dir.size()).ok_or(ESTALE)?;
            if !holds(sb.data(), &dir, child)? {
                return Err(ESTALE);
            }
            child = parent;
            parent = image.parent(&dir).map_err(stale)?;
        }
        Err(ESTALE)
    }

    fn parent_ino(inode: &Inode<Self>) -> Result<u64> {
        if !inode.is_dir() {
            return inode::directory_of(inode).ok_or(ESTALE);
        }
        let image = inode.super_block().data().image();
        image
            .parent(&inode::node(inode))
            .map_err(|e| fault::of_image(inode, e))
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

/// Whether the directory `dir` has an entry for the inode `nid`, other than for itself and its
/// parent.
fn holds(mounted: &Mounted, dir: &Node, nid: u64) -> Result<bool> {
    let mut found = false;
    let mut pos = 0;
    let walk = mounted.image().read_dir(dir, &mut pos, |entry| {
        if entry.nid == nid && !matches!(entry.name, b"." | b"..") {
            found = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    walk.map_err(stale)?;
    Ok(found)
}

/// Bytes that are not what a handle says are no damage of the image: the handle is wrong.
fn stale(error: image::Error<Error>) -> Error {
    match error {
        image::Error::Source(e) => e,
        image::Error::Corrupt(_) => ESTALE,
    }
}
