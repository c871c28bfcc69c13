// SPDX-License-Identifier: GPL-2.0

//! A super block of the kernel's own, for inodes that belong to no mount.
//!
//! C header: [`include/linux/pseudo_fs.h`](srctree/include/linux/pseudo_fs.h)

use super::{
    bindings,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    error::from_err_ptr,
    prelude::*,
    types::Opaque, //
};

/// A mount that no name leads to. Its inodes may live as long as it does: longer than those of any
/// super block that can be unmounted.
///
/// # Invariants
///
/// `mnt` is a mount of `fs_type` that we own.
#[pin_data(PinnedDrop)]
pub(super) struct InternalMount<T: FileSystem> {
    #[pin]
    fs_type: Opaque<bindings::file_system_type>,
    mnt: NonNull<bindings::vfsmount>,
    _type: PhantomData<T>,
}

impl<T: FileSystem> InternalMount<T> {
    /// Makes the mount.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            // It has no owner: a module cannot go as long as something counts as using it, and
            // this is there until the module goes.
            fs_type: Opaque::new(bindings::file_system_type {
                name: T::INTERNAL_NAME.as_char_ptr(),
                init_fs_context: Some(init_fs_context::<T>),
                kill_sb: Some(bindings::kill_anon_super),
                ..pin_init::zeroed()
            }),
            mnt: {
                // SAFETY: The type was written before, and is pinned.
                let mnt = unsafe { bindings::kern_mount((*this.as_ptr()).fs_type.get()) };
                NonNull::new(from_err_ptr(mnt)?).ok_or(EINVAL)?
            },
            _type: PhantomData,
        }? Error)
    }

    /// Makes an inode. It has no name and is not hashed, so that nobody else finds it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new_inode(&self) -> Result<NonNull<bindings::inode>> {
        // SAFETY: The mount has a super block, which allocates its inodes.
        NonNull::new(unsafe { bindings::new_inode((*self.mnt.as_ptr()).mnt_sb) }).ok_or(ENOMEM)
    }
}

#[pinned_drop]
impl<T: FileSystem> PinnedDrop for InternalMount<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: We own the mount by the type invariants. A mount of the kernel's own goes at
        // once, so that nobody uses the type afterwards.
        unsafe { bindings::kern_unmount(self.mnt.as_ptr()) };
    }
}

/// `->init_fs_context`.
///
/// # Safety
///
/// `fc` must be a new context.
unsafe extern "C" fn init_fs_context<T: FileSystem>(
    fc: *mut kernel::bindings::fs_context,
) -> c_int {
    // SAFETY: The kernel crate knows only the name of the structure, ours is the same.
    let context = unsafe { bindings::init_pseudo(fc.cast(), T::INTERNAL_MAGIC) };
    if context.is_null() {
        ENOMEM.to_errno()
    } else {
        0
    }
}
