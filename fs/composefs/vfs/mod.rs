// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the C VFS, for a read-only file system whose data live in the files of
//! another one.
//!
//! All `unsafe` code of the module is in here. Every safe function is sound whatever its caller
//! does; nothing in here knows what composefs is. It is written as it would stand in
//! `rust/kernel/fs/`.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h),
//! [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h).

mod anon_inode;
pub mod backing;
// Macros of this layer name symbols in it from outside.
#[doc(hidden)]
pub mod bindings;
pub mod buffer;
pub mod context;
pub mod cred;
mod dentry;
pub mod dir;
pub mod export;
pub mod file;
pub mod folio;
pub mod hash;
pub mod inode;
pub mod kernel_file;
#[cfg(all(CONFIG_KUNIT = "y", CONFIG_RUST_VFS_KUNIT_TEST))]
#[allow(clippy::arithmetic_side_effects)]
mod kunit;
mod later;
pub mod log;
pub mod mapping;
pub mod once;
mod page_cache;
pub mod path;
mod recent_folios;
pub mod registration;
pub mod shrink;
pub mod stacking;
pub mod statfs;
pub mod super_block;
pub mod task;
pub mod trace;
pub mod verity;
pub mod xattr;

use kernel::{
    prelude::*,
    ModuleMetadata, //
};

/// The types that one file system puts behind the VFS's private pointers.
///
/// What it does is in the traits of the other modules: [`super_block::Operations`],
/// [`dir::Operations`], [`file::Operations`], [`xattr::Operations`], [`export::Operations`], and
/// [`stacking::Operations`] where the data of its files are in another file system.
pub trait FileSystem: Sized + Send + Sync + 'static {
    /// The module that owns every operation table; it stays loaded while one of them is in use.
    type Module: ModuleMetadata;

    /// Name of the type, as `mount -t` takes it.
    const NAME: &'static CStr;

    /// Name of the cache that its inodes come from, as `/proc/slabinfo` shows it.
    const INODE_CACHE_NAME: &'static CStr;

    /// Whether whoever is root in a user namespace may mount. Asked once, at registration.
    fn allows_user_namespaces() -> bool {
        false
    }

    /// What parameters are collected in, from `fsopen()` on: `struct fs_context::fs_private`.
    type Context: Default + Send;

    /// What makes a super block the one that a second mount asks for, too. Compared under a
    /// spinlock, also with super blocks that are being made or taken down: it must not change.
    type Key: Eq + Send + Sync;

    /// Data of a super block: `struct super_block::s_fs_info`.
    type Super: Send + Sync;

    /// Data of an inode that exist as long as its memory. They must not need dropping: the memory
    /// is freed after an RCU grace period, in a context that cannot sleep.
    type Inode: Send + Sync;

    /// Data that an inode acquires once, after it is known to others, and that are dropped when
    /// it is evicted, where sleeping is allowed.
    type Pinned: Send + Sync;

    /// Is told that an inode is evicted that has acquired `pinned`. Returns whether that is to be
    /// dropped by a worker: an inode may be evicted by who needs memory, and must not wait for what
    /// dropping it may take.
    fn evicted(_data: &Self::Super, _pinned: &Self::Pinned) -> bool {
        false
    }

    /// Drops what [`Self::evicted`] has left to a worker.
    fn drop_later(pinned: Self::Pinned) {
        drop(pinned);
    }
}

/// Converts the length that a C callback returns on success.
fn to_ssize(result: Result<usize>) -> isize {
    match result {
        Ok(len) => isize::try_from(len).unwrap_or(isize::MAX),
        Err(e) => errno_to_isize(e),
    }
}

/// Widens a negative error number.
fn errno_to_isize(e: Error) -> isize {
    // `c_int` is never wider than `isize` on Linux; there is no `From` for it.
    isize::try_from(e.to_errno()).unwrap_or(-5)
}
