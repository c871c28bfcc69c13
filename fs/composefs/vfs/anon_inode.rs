// SPDX-License-Identifier: GPL-2.0

//! Inodes that belong to no mount.
//!
//! They are on the super block of anonymous inodes, `anon_inode_mnt`, which is never unmounted. A
//! pseudo file system of the module itself would have to outlive the module: the last passive
//! reference to a super block, which sync(2) may hold long after the super block was shut down,
//! unlinks it from its `file_system_type`.
//!
//! C header: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h)

use super::bindings;
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Cache of [`super_block`].
static SUPER_BLOCK: Atomic<*mut bindings::super_block> = Atomic::new(core::ptr::null_mut());

/// Returns the super block of anonymous inodes.
///
/// # Errors
///
/// `ENOMEM`, or `ENFILE` if too many files are open.
fn super_block() -> Result<NonNull<bindings::super_block>> {
    if let Some(sb) = NonNull::new(SUPER_BLOCK.load(Relaxed)) {
        return Ok(sb);
    }
    // SAFETY: The name is copied. `generic_ro_fops` is a static table without an owner.
    let file = from_err_ptr(unsafe {
        bindings::anon_inode_getfile(
            c"[internal]".as_char_ptr(),
            &raw const bindings::generic_ro_fops,
            core::ptr::null_mut(),
            bindings::O_RDONLY as c_int,
        )
    })?;
    // SAFETY: The file is valid until `fput()`. The super block of `anon_inode_mnt` is never freed.
    let sb = unsafe {
        let sb = (*(*file).f_inode).i_sb;
        bindings::fput(file);
        sb
    };
    SUPER_BLOCK.store(sb, Relaxed);
    NonNull::new(sb).ok_or(EINVAL)
}

/// Creates an inode. It has no name and is not hashed, so no path and no lookup leads to it.
///
/// # Errors
///
/// `ENOMEM`, or `ENFILE` if too many files are open.
pub(super) fn new_inode() -> Result<NonNull<bindings::inode>> {
    let sb = super_block()?;
    // SAFETY: The super block is never freed.
    NonNull::new(unsafe { bindings::new_inode(sb.as_ptr()) }).ok_or(ENOMEM)
}
