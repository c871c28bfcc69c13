// SPDX-License-Identifier: GPL-2.0

//! Dentries.
//!
//! C header: [`include/linux/dcache.h`](srctree/include/linux/dcache.h)

use super::{
    bindings,
    file,
    inode::Inode, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// Gives the dentries of a super block their operations.
///
/// # Safety
///
/// `sb` must be a super block of `T` that has no dentries yet.
pub(super) unsafe fn set_operations<T: file::Operations>(sb: *mut bindings::super_block) {
    // SAFETY: The caller promises it; the table is static.
    unsafe { bindings::set_default_d_op(sb, &Table::<T>::OPERATIONS) };
}

struct Table<T>(PhantomData<T>);

impl<T: file::Operations> Table<T> {
    const OPERATIONS: bindings::dentry_operations = bindings::dentry_operations {
        d_real: Some(Self::d_real),
        ..pin_init::zeroed()
    };

    /// Says which dentry has the data of a file: what is mapped is that file, so that a uprobe has
    /// to be set on it, and what IMA and IPE ask about is it, too. The metadata are our own.
    ///
    /// # Safety
    ///
    /// `dentry` must be one of `T`, with a reference held.
    unsafe extern "C" fn d_real(
        dentry: *mut bindings::dentry,
        kind: bindings::d_real_type,
    ) -> *mut bindings::dentry {
        if kind != bindings::d_real_type_D_REAL_DATA {
            return dentry;
        }
        // SAFETY: The caller promises it. A dentry that is held keeps its inode.
        let inode = unsafe { NonNull::new(bindings::d_inode(dentry)) };
        let Some(inode) = inode else {
            return dentry;
        };
        // SAFETY: The inode is set up, as it has a dentry.
        let inode = unsafe { Inode::<T>::from_raw(inode.as_ptr()) };
        if !inode.is_regular() {
            return dentry;
        }
        match T::real_path(inode) {
            // The inode keeps what it says, and the caller's dentry keeps the inode.
            // SAFETY: The dentry is valid. There may be another file system below this one.
            Some(path) => unsafe { bindings::d_real((*path.as_ptr()).dentry, kind) },
            None => dentry,
        }
    }
}
