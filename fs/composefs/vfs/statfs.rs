// SPDX-License-Identifier: GPL-2.0

//! Size and free space of a file system.
//!
//! C header: [`include/linux/statfs.h`](srctree/include/linux/statfs.h)

use super::bindings;
use kernel::prelude::*;

/// The result of statfs(2).
pub struct StatFs(bindings::kstatfs);

impl StatFs {
    /// Describes a file system of `blocks` blocks of `block_size` bytes, of which none is free.
    pub fn full(block_size: c_long, blocks: u64) -> Self {
        Self(bindings::kstatfs {
            f_bsize: block_size,
            f_frsize: block_size,
            f_blocks: blocks,
            ..pin_init::zeroed()
        })
    }

    pub(super) fn from_raw(raw: bindings::kstatfs) -> Self {
        Self(raw)
    }

    pub(super) fn into_raw(self) -> bindings::kstatfs {
        self.0
    }

    /// Sets the identity, the type and the longest name in bytes, and clears the number of inodes:
    /// with a number of free inodes of 0, tools would say that a read-only file system has run out
    /// of them.
    pub fn identify(&mut self, fsid: u64, magic: c_ulong, name_len: c_long) {
        self.0.f_fsid.val = [fsid as i32, (fsid >> 32) as i32];
        self.0.f_type = magic as c_long;
        self.0.f_namelen = name_len;
        self.0.f_files = 0;
        self.0.f_ffree = 0;
    }
}
