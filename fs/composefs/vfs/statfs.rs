// SPDX-License-Identifier: GPL-2.0

//! Size and free space of a file system.
//!
//! C header: [`include/linux/statfs.h`](srctree/include/linux/statfs.h)

use super::bindings;
use kernel::prelude::*;

/// What statfs(2) answers.
pub struct StatFs(bindings::kstatfs);

impl StatFs {
    /// An answer of a file system of `blocks` blocks of `block_size` bytes, none of them free.
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

    /// Sets the identity, type and longest name in bytes. The number of inodes, and how many of
    /// them are free, is not told: a file system that nothing can be added to has not run out of
    /// them.
    pub fn identify(&mut self, fsid: u64, magic: c_ulong, name_len: c_long) {
        self.0.f_fsid.val = [
            (fsid as u32).cast_signed(),
            ((fsid >> 32) as u32).cast_signed(),
        ];
        self.0.f_type = magic.cast_signed();
        self.0.f_namelen = name_len;
        self.0.f_files = 0;
        self.0.f_ffree = 0;
    }
}
