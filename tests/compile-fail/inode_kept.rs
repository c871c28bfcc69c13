// SPDX-License-Identifier: GPL-2.0
// error: E0521

//! A reference to an inode kept for longer than the super block.

use composefs_main::vfs::{super_block::SuperBlock, FileSystem};

fn later(_: impl FnOnce() + 'static) {}

pub fn keep<T: FileSystem>(sb: &SuperBlock<T>) {
    let inode = sb.cached(1);
    later(move || drop(inode));
}
