// SPDX-License-Identifier: GPL-2.0

//! Trace events: see `trace.h`.

use crate::vfs::{
    inode::{
        Inode,
        InodeRef, //
    },
    trace::{
        trace_events,
        Bytes, //
    },
};
use crate::Composefs;
use kernel::prelude::*;

trace_events! {
    fn emit_lookup(dev: u32, dir: u64, name: Bytes<'_>, ino: u64, error: c_int) = composefs_lookup;
    fn emit_object_open(dev: u32, ino: u64, error: c_int) = composefs_object_open;
    fn emit_fault(message: Bytes<'_>) = composefs_fault;
}

/// `composefs_lookup`: `name` was looked up in `dir`.
#[inline]
pub(crate) fn lookup(
    dir: &Inode<Composefs>,
    name: &[u8],
    result: &Result<Option<InodeRef<'_, Composefs>>>,
) {
    let (ino, error) = match result {
        Ok(inode) => (inode.as_ref().map_or(0, |inode| inode.ino()), 0),
        Err(e) => (0, e.to_errno()),
    };
    emit_lookup(
        dir.super_block().device(),
        dir.ino(),
        name.into(),
        ino,
        error,
    );
}

/// `composefs_object_open`: the object of `inode` was opened and verified, or this has failed.
pub(crate) fn object_open<T>(inode: &Inode<Composefs>, result: &Result<T>) {
    let error = result.as_ref().map_or_else(|e| e.to_errno(), |_| 0);
    emit_object_open(inode.super_block().device(), inode.ino(), error);
}

/// `composefs_fault`: the line `message` is written to the kernel log, unless its rate limit is
/// reached.
pub(crate) fn fault(message: &CStr) {
    emit_fault(message.to_bytes().into());
}
