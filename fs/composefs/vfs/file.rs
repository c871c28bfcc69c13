// SPDX-License-Identifier: GPL-2.0

//! Regular files.
//!
//! The tables have no owner, as those of other file systems: an open file keeps its mount, the
//! mount keeps the super block, and that keeps the module of its type.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings,
    errno_to_isize,
    folio::LockedFolio,
    inode::{
        self,
        Inode, //
    },
    xattr,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::from_result,
    prelude::*, //
};

/// Operations of regular files.
pub trait Operations: FileSystem {
    /// Fills a folio of the page cache of `inode`. Bytes behind the end of the file must be zeros.
    ///
    /// It may be called in a page fault, so it must not look up a path or read another file.
    ///
    /// # Errors
    ///
    /// The error of reading the content.
    fn read_folio(inode: &Inode<Self>, folio: &mut LockedFolio<'_>) -> Result;
}

/// The operation tables of a regular file.
pub struct RegularFile<T> {
    inode_operations: &'static bindings::inode_operations,
    file_operations: &'static bindings::file_operations,
    _type: PhantomData<T>,
}

impl<T: Operations> RegularFile<T> {
    /// # Safety
    ///
    /// Both tables must be those of files of `T`.
    #[inline]
    pub(super) unsafe fn new(
        inode_operations: &'static bindings::inode_operations,
        file_operations: &'static bindings::file_operations,
    ) -> Self {
        Self {
            inode_operations,
            file_operations,
            _type: PhantomData,
        }
    }

    /// A file that is read through its page cache. [`Operations::read_folio`] fills it.
    #[inline]
    pub fn paged() -> Self
    where
        T: xattr::Operations,
    {
        // SAFETY: Both tables are those of files of `T`.
        unsafe {
            Self::new(
                &inode::Tables::<T>::OTHER_OPERATIONS,
                &Table::<T>::FILE_OPERATIONS,
            )
        }
    }

    /// Sets the operations of an inode that is being set up.
    ///
    /// # Safety
    ///
    /// `inode` must be an inode of `T` that nothing else uses yet.
    #[inline]
    pub(super) unsafe fn set_operations(&self, inode: *mut bindings::inode) {
        // SAFETY: Nothing else uses the inode. The tables are static.
        unsafe {
            (*inode).i_op = self.inode_operations;
            bindings::inode_set_fop(inode, self.file_operations);
            bindings::mapping_set_ops(inode, &Table::<T>::ADDRESS_SPACE);
            bindings::inode_nohighmem(inode);
        }
    }
}

struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    const FILE_OPERATIONS: bindings::file_operations = bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        read_iter: Some(bindings::generic_file_read_iter),
        splice_read: Some(bindings::filemap_splice_read),
        mmap: Some(bindings::generic_file_readonly_mmap),
        fsync: Some(bindings::noop_fsync),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    const ADDRESS_SPACE: bindings::address_space_operations = bindings::address_space_operations {
        read_folio: Some(Self::read_folio),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `folio` must be locked, not up to date, and in the mapping of a file of `T`.
    unsafe extern "C" fn read_folio(
        _file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> c_int {
        let Some(ptr) = NonNull::new(folio) else {
            return EIO.to_errno();
        };
        // SAFETY: The lock keeps the folio in its mapping, and the reader holds the inode.
        // `set_operations` keeps the mapping in low memory.
        let result = unsafe {
            let inode = Inode::<T>::from_raw(bindings::folio_inode(folio));
            T::read_folio(inode, &mut LockedFolio::from_raw(ptr))
        };
        // SAFETY: The folio is locked and not up to date. The function unlocks it.
        unsafe { bindings::folio_end_read(folio, result.is_ok()) };
        from_result(|| result.map(|()| 0))
    }
}

/// Reads a file whose whole content is in memory, as `->read_iter` does.
///
/// # Safety
///
/// `kiocb` and `iter` must be the arguments of `->read_iter`.
pub(super) unsafe fn read_kept(
    kiocb: *mut bindings::kiocb,
    iter: *mut bindings::iov_iter,
    content: &[u8],
) -> isize {
    // SAFETY: The kiocb is valid, and nothing else uses it.
    let pos = unsafe { &mut (*kiocb).ki_pos };
    let rest = usize::try_from(*pos)
        .ok()
        .and_then(|pos| content.get(pos..));
    let rest = rest.unwrap_or(&[]);
    // SAFETY: The iterator is valid, and nothing else uses it. So is what is copied.
    let (room, copied) = unsafe {
        let room = bindings::iov_iter_count(iter);
        let copied = bindings::_copy_to_iter(rest.as_ptr().cast(), rest.len(), iter);
        (room, copied)
    };
    if copied == 0 && room != 0 && !rest.is_empty() {
        return errno_to_isize(EFAULT);
    }
    // None of these can overflow: all are at most the size of the content.
    *pos = pos.saturating_add(i64::try_from(copied).unwrap_or(i64::MAX));
    isize::try_from(copied).unwrap_or(isize::MAX)
}
