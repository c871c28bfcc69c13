// SPDX-License-Identifier: GPL-2.0

//! Where the data of a file of a stacking file system are: FIEMAP of ioctl(2).
//!
//! C header: [`include/linux/fiemap.h`](srctree/include/linux/fiemap.h)

use super::{
    bindings,
    cred,
    inode::Inode,
    stacking::Operations, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};

/// Consecutive bytes of a file, and where they are.
pub struct Extent {
    /// Position on the disk, or in the file that the file system is in.
    pub physical: u64,
    /// Length in bytes.
    pub len: u64,
    /// Whether they are among metadata, and so not aligned to blocks.
    pub is_inline: bool,
}

/// `->fiemap`.
///
/// # Safety
///
/// `inode` must be an inode of `T` to which a reference is held, `info` the argument of `->fiemap`.
pub(super) unsafe extern "C" fn fiemap<T: Operations>(
    inode: *mut bindings::inode,
    info: *mut bindings::fiemap_extent_info,
    start: u64,
    len: u64,
) -> c_int {
    // SAFETY: The VFS holds a reference to the inode for the call.
    let inode = unsafe { Inode::<T>::from_raw(inode) };
    match T::backing_path(inode) {
        // SAFETY: The rest are the arguments of `->fiemap`.
        Ok(path) => cred::with(T::credential(inode.super_block()), || unsafe {
            path.fiemap(info, start, len)
        }),
        // SAFETY: As above.
        Err(e) if e == EOPNOTSUPP => match unsafe { own_extents(inode, info, start, len) } {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        },
        Err(e) => e.to_errno(),
    }
}

/// Returns the extents of data that are not in another file.
///
/// # Safety
///
/// `info` must be the argument of `->fiemap`.
unsafe fn own_extents<T: Operations>(
    inode: &Inode<T>,
    info: *mut bindings::fiemap_extent_info,
    start: u64,
    mut len: u64,
) -> Result {
    // SAFETY: The inode is valid, and `info` the argument of `->fiemap`.
    to_result(unsafe { bindings::fiemap_prep(inode.as_ptr(), info, start, &raw mut len, 0) })?;
    let end = start.saturating_add(len);
    let mut offset = start;
    while offset < end && offset < inode.size() {
        let Some(extent) = T::own_extent(inode, offset)?.filter(|extent| extent.len != 0) else {
            break;
        };
        let next = offset.saturating_add(extent.len);
        let mut flags = 0;
        if extent.is_inline {
            flags |= bindings::FIEMAP_EXTENT_DATA_INLINE;
        }
        if next >= inode.size() {
            flags |= bindings::FIEMAP_EXTENT_LAST;
        }
        // SAFETY: `info` is the argument of `->fiemap`.
        let full = unsafe {
            bindings::fiemap_fill_next_extent(info, offset, extent.physical, extent.len, flags)
        };
        to_result(full.min(0))?;
        if full != 0 {
            break;
        }
        offset = next;
    }
    Ok(())
}
