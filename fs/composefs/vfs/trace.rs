// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: see `trace.h`. They cost next to nothing where nobody listens.

use super::{
    bindings,
    inode::{
        Inode,
        InodeRef, //
    },
    FileSystem, //
};
use kernel::prelude::*;

/// `composefs_lookup`: `name` was looked up in `dir`.
pub fn lookup<T: FileSystem>(
    dir: &Inode<T>,
    name: &[u8],
    result: &Result<Option<InodeRef<'_, T>>>,
) {
    let (ino, error) = match result {
        Ok(inode) => (inode.as_ref().map_or(0, |inode| inode.ino()), 0),
        Err(e) => (0, e.to_errno()),
    };
    let len = u32::try_from(name.len()).unwrap_or(0);
    // SAFETY: The inode is valid; the name is at least as long as said, and is copied.
    unsafe { bindings::trace_lookup(dir.as_ptr(), name.as_ptr().cast(), len, ino, error) };
}

/// `composefs_object_open`: the file with the data of `inode` was opened, and found to be the right
/// one or not.
pub fn object_open<T: FileSystem, U>(inode: &Inode<T>, result: &Result<U>) {
    let error = result.as_ref().map_or_else(|e| e.to_errno(), |_| 0);
    // SAFETY: The inode is valid.
    unsafe { bindings::trace_object_open(inode.as_ptr(), error) };
}
