// SPDX-License-Identifier: GPL-2.0
// error: E0277

//! A reference to an inode that does not borrow the super block.

use composefs_main::vfs::{inode::Inode, FileSystem};
use kernel::sync::aref::ARef;

pub fn count<T: FileSystem>(inode: &Inode<T>) {
    let _ = ARef::from(inode);
}
