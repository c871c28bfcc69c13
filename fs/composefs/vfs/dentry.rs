// SPDX-License-Identifier: GPL-2.0

//! Dentries of a stacking file system.
//!
//! C header: [`include/linux/dcache.h`](srctree/include/linux/dcache.h)

use super::{
    bindings,
    inode::Inode,
    stacking, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// Operations of the dentries of a super block.
pub(super) fn operations<T: stacking::Operations>() -> &'static bindings::dentry_operations {
    &Table::<T>::OPERATIONS
}

struct Table<T>(PhantomData<T>);

impl<T: stacking::Operations> Table<T> {
    const OPERATIONS: bindings::dentry_operations = bindings::dentry_operations {
        d_real: Some(Self::d_real),
        ..pin_init::zeroed()
    };

    /// `->d_real`: returns the dentry of the file with the data. A memory map maps that file, so
    /// uprobes are set on it, and IMA and IPE measure it. The metadata are those of `dentry`.
    ///
    /// # Safety
    ///
    /// `dentry` must be a dentry of `T` to which the caller holds a reference.
    unsafe extern "C" fn d_real(
        dentry: *mut bindings::dentry,
        kind: bindings::d_real_type,
    ) -> *mut bindings::dentry {
        if kind != bindings::d_real_type_D_REAL_DATA {
            return dentry;
        }
        // SAFETY: A reference to the dentry is held, which keeps its inode.
        let inode = unsafe { NonNull::new(bindings::d_inode(dentry)) };
        let Some(inode) = inode else {
            return dentry;
        };
        // SAFETY: The inode has a dentry, so it is set up.
        let inode = unsafe { Inode::<T>::from_raw(inode.as_ptr()) };
        if !inode.is_regular() {
            return dentry;
        }
        let depth = inode.super_block().stack_depth();
        match T::real_path(inode).filter(|path| path.stack_depth() < depth) {
            // SAFETY: The inode keeps the path, and `dentry` keeps the inode. The file may be on a
            // stacking file system itself, so ask that one. It is one below, so this ends.
            Some(path) => unsafe { bindings::d_real((*path.as_ptr()).dentry, kind) },
            None => dentry,
        }
    }
}
