// SPDX-License-Identifier: GPL-2.0

//! Safe abstractions over the C VFS, for read-only file systems.
//!
//! All `unsafe` code of the module is here. No safe function can be misused into undefined
//! behaviour. Nothing here depends on the file system that uses it: in a kernel tree these files
//! are a part of the kernel crate. `kunit/sample.rs` is a small file system to start with.
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
pub mod fiemap;
pub mod file;
pub mod folio;
pub mod hash;
pub mod inode;
mod kept_folios;
pub mod kernel_file;
pub mod keyring;
#[cfg(all(CONFIG_KUNIT = "y", CONFIG_RUST_VFS_KUNIT_TEST))]
#[allow(clippy::arithmetic_side_effects)]
mod kunit;
mod later;
pub mod log;
pub mod mapping;
pub mod once;
mod page_cache;
pub mod passed_file;
pub mod path;
pub mod registration;
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

/// A file system type: its name, and the types of its private data.
///
/// Its operations are in the traits of the other modules: [`super_block::Operations`],
/// [`dir::Operations`], [`file::Operations`], [`xattr::Operations`], [`export::Operations`], and
/// [`stacking::Operations`] where the data of its files are in another file system.
pub trait FileSystem: Sized + Send + Sync + 'static {
    /// The module that owns the operation tables. It stays loaded while one of them is in use.
    type Module: ModuleMetadata;

    /// Name of the type, for `mount -t`.
    const NAME: &'static CStr;

    /// Name of its inode cache in `/proc/slabinfo`.
    const INODE_CACHE_NAME: &'static CStr;

    /// Name of the keyring that exists while the type is registered. See
    /// [`keyring`](context::FsContext::keyring).
    const KEYRING_NAME: Option<&'static CStr> = None;

    /// Whether the root of a user namespace may mount it. Called once, at registration.
    fn allows_user_namespaces() -> bool {
        false
    }

    /// Data of a file system context: `struct fs_context::fs_private`.
    type Context: Default + Send + 'static;

    /// Key under which mounts share a super block. It must not change: it is compared under a
    /// spinlock, even with super blocks that are being set up or shut down.
    type Key: Eq + Send + Sync + 'static;

    /// Data of a super block: `struct super_block::s_fs_info`.
    type Super: Send + Sync + 'static;

    /// Data that an inode has from the start. They must not need dropping: the memory is freed
    /// after an RCU grace period, in a context that cannot sleep.
    type Inode: Send + Sync + 'static;

    /// Data that an inode in use gets once. They are dropped in `->evict_inode`, which may sleep.
    type Pinned: Send + Sync + 'static;

    /// Called when an inode with the data `pinned` is evicted. Returns whether a worker must drop
    /// them: memory reclaim evicts inodes, and must not wait long.
    fn evicted(_data: &Self::Super, _pinned: &Self::Pinned) -> bool {
        false
    }

    /// Called by the worker to drop the data.
    fn drop_later(pinned: Self::Pinned) {
        drop(pinned);
    }
}

/// Converts the length that a C callback returns on success.
fn to_ssize(result: Result<usize>) -> isize {
    match result {
        // Cannot fail: no callback returns more than `MAX_RW_COUNT`.
        Ok(len) => isize::try_from(len).unwrap_or(isize::MAX),
        Err(e) => errno_to_isize(e),
    }
}

/// Widens a negative error number.
fn errno_to_isize(e: Error) -> isize {
    // Cannot fail: `c_int` is never wider than `isize` in Linux, but there is no `From`.
    isize::try_from(e.to_errno()).unwrap_or(-5)
}
