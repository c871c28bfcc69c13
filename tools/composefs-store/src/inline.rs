// SPDX-License-Identifier: GPL-2.0

//! Small files in the image itself.
//!
//! An object costs more than its content: its directory, its inode, fs-verity's descriptor and a
//! block are read from the disk one by one. What is inline comes with the inode of the image.

use anyhow::Result;
use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::LeafContent;
use composefs::tree::FileSystem;
use composefs::tree::RegularFile;

use crate::store::Store;

/// Puts the content of files of up to `limit` bytes into the image. Their objects stay in the store.
///
/// # Errors
///
/// When an object cannot be read.
pub fn small_files<Digest: FsVerityHashValue>(
    store: &Store<Digest>,
    files: &mut FileSystem<Digest>,
    limit: u64,
) -> Result<()> {
    for leaf in &mut files.leaves {
        if let LeafContent::Regular(file) = &mut leaf.content
            && let RegularFile::External(object, size) = file
            && *size <= limit
        {
            let content = store.repository.read_object(object)?;
            *file = RegularFile::Inline(content.into_boxed_slice());
        }
    }
    Ok(())
}
