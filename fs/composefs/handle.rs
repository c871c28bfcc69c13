// SPDX-License-Identifier: GPL-2.0

//! File handles: encoding and decoding.
//!
//! A handle holds the nid of an inode, the nid of a directory that has a name for it, and the
//! number of the directory's block with that name.
//!
//! A handle may be forged. A nid is a position in the image, so a forged one can point into the
//! bytes of a small file that spell an inode with other permissions. A handle is accepted only if
//! the directory has a name for the inode, that directory's parent has a name for it, and so on up
//! to an inode that is known to be reachable from the root. The block number is a hint, where the
//! search begins.

use crate::vfs::{
    export,
    inode::{
        Inode,
        InodeRef, //
    },
    super_block::SuperBlock, //
};
use crate::{
    image::{
        self,
        FileType,
        InodeLayout,
        Source, //
    },
    inode::{
        self,
        Location, //
    },
    report,
    sb::SbInfo,
    Composefs, //
};
use kernel::prelude::*;

/// Largest number of directories above an inode. A path of `PATH_MAX` bytes has no more components.
const DEPTH_MAX: usize = 2048;

#[vtable]
impl export::Operations for Composefs {
    fn by_handle(
        sb: &SuperBlock<Self>,
        ino: u64,
        parent: Option<u64>,
        hint: u32,
    ) -> Result<InodeRef<'_, Self>> {
        // An inode in memory was reached from the root or by a handle that was accepted.
        if let Some(inode) = sb.cached(ino) {
            return Ok(inode);
        }
        let image = &sb.data().image;
        let mut left = image.source().size();
        let mut child = ino;
        let mut parent = match parent {
            Some(parent) => parent,
            None => image.parent(&directory(sb.data(), ino)?).map_err(stale)?,
        };
        let mut location = Location::default();
        for _ in 0..DEPTH_MAX {
            // An inode in memory has been read already.
            let known = sb.cached(parent);
            let dir = match &known {
                Some(inode) if inode.is_dir() => inode::layout(inode),
                Some(_) => return Err(ESTALE),
                None => directory(sb.data(), parent)?,
            };
            // The directories of a path do not overlap: together they are no larger than the image.
            left = left.checked_sub(dir.size()).ok_or(ESTALE)?;
            let first = child == ino;
            let block = find(sb.data(), &dir, child, if first { hint } else { 0 })?;
            let block = block.ok_or(ESTALE)?;
            if first {
                location = Location::new(parent, block);
            }
            child = parent;
            if known.is_some() || child == image.superblock().root_nid {
                // Get the directory, so that the next handle from it need not go further up.
                if child != location.directory {
                    drop(inode::get(sb, location.directory, Location::default())?);
                }
                return inode::get(sb, ino, location)?.ok_or(ESTALE);
            }
            parent = image.parent(&dir).map_err(stale)?;
        }
        Err(ESTALE)
    }

    fn parent_ino(inode: &Inode<Self>) -> Result<u64> {
        if !inode.is_dir() {
            return match inode::location(inode).directory {
                0 => Err(ESTALE),
                directory => Ok(directory),
            };
        }
        let image = &inode.super_block().data().image;
        image
            .parent(&inode::layout(inode))
            .map_err(|e| report::metadata_error(inode, e))
    }

    fn hint(inode: &Inode<Self>, parent: u64) -> u32 {
        // A directory does not know the block of its entry.
        if inode.is_dir() {
            return 0;
        }
        let location = inode::location(inode);
        if location.directory == parent {
            location.block
        } else {
            0
        }
    }
}

/// Reads the inode `nid`, which must be a directory.
fn directory(sbi: &SbInfo, nid: u64) -> Result<InodeLayout> {
    let inode = sbi.image.inode(nid).map_err(stale)?;
    match inode.file_type() {
        FileType::Directory => Ok(inode.layout),
        _ => Err(ESTALE),
    }
}

/// Finds the block of the directory `dir` with a name for the inode `nid`. It looks first at the
/// block `hint`, counted from 1. A wrong hint only costs time.
fn find(sbi: &SbInfo, dir: &InodeLayout, nid: u64, hint: u32) -> Result<Option<u64>> {
    let image = &sbi.image;
    let leads = |number| match image.block_leads_to(dir, number, nid) {
        Ok(leads) => Ok(leads),
        // Another block may be valid. The result must not depend on the hint.
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

/// Converts an error. Bytes that are not what the handle says are not damage: the handle is wrong.
fn stale(error: image::Error<Error>) -> Error {
    match error {
        image::Error::Source(e) => e,
        image::Error::Corrupt(_) => ESTALE,
    }
}
