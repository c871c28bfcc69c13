// SPDX-License-Identifier: GPL-2.0

//! A page cache that only we fill and only we read.
//!
//! A file's own page cache can be written to by others while we read it, so a `&[u8]` over it
//! would be unsound, and a check of its bytes worthless by the time they are used. [`PrivateMapping`]
//! is the page cache of an inode that no name and no file leads to: nobody maps it, splices it or
//! writes to it. A folio is filled once, before it is up to date, and dropped under memory
//! pressure like any other.

use super::{
    bindings,
    folio::{
        Bytes,
        NewFolio, //
    },
    super_block::NewSuperBlock,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::from_err_ptr,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// Where a [`PrivateMapping`] has its bytes from.
pub trait Reader: Send + Sync + 'static {
    /// Reads `out.len()` bytes at `pos`, fewer only at the end of the source; returns how many.
    ///
    /// # Errors
    ///
    /// Whatever keeps the bytes from being read. The page cache will ask again.
    fn read(&self, pos: u64, out: &mut [u8]) -> Result<usize>;
}

/// The bytes of a [`Reader`], cached.
///
/// # Invariants
///
/// `inode` is an inode of our own to which we hold the only reference; it is not hashed. Its
/// `i_private` points to `reader`, and its mapping's operations are those of [`AddressSpace`].
pub struct PrivateMapping<R: Reader> {
    inode: NonNull<bindings::inode>,
    reader: NonNull<R>,
    size: u64,
    _owns: PhantomData<KBox<R>>,
}

// SAFETY: The page cache may be used and given up from any thread; `R` is `Send` and `Sync`.
unsafe impl<R: Reader> Send for PrivateMapping<R> {}

// SAFETY: As above.
unsafe impl<R: Reader> Sync for PrivateMapping<R> {}

impl<R: Reader> PrivateMapping<R> {
    /// Makes an empty page cache over `size` bytes of `reader`.
    ///
    /// The mapping must be dropped before its super block goes: keep it in the super block's data.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `EFBIG` if `size` is not a size that a file can have.
    pub fn new<T: FileSystem>(
        sb: &NewSuperBlock<'_, T>,
        reader: KBox<R>,
        size: u64,
    ) -> Result<Self> {
        let i_size = i64::try_from(size).map_err(|_| EFBIG)?;
        // SAFETY: The super block is valid and has operations that allocate inodes.
        let inode = NonNull::new(unsafe { bindings::new_inode(sb.as_ptr()) }).ok_or(ENOMEM)?;
        let reader = NonNull::new(KBox::into_raw(reader)).ok_or(EINVAL)?;
        // SAFETY: The inode is new, so nobody else looks at its fields. `i_mapping` of a new inode
        // points to its own `i_data`.
        unsafe {
            let raw = inode.as_ptr();
            bindings::set_nlink(raw, 1);
            bindings::i_size_write(raw, i_size);
            (*raw).i_private = reader.as_ptr().cast();
            (*raw).i_data.a_ops = &AddressSpace::<R>::OPERATIONS;
            bindings::inode_nohighmem(raw);
        }
        // INVARIANT: `new_inode` gave us the only reference and does not hash the inode.
        Ok(Self {
            inode,
            reader,
            size,
            _owns: PhantomData,
        })
    }

    /// Number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What the bytes are read from.
    pub fn reader(&self) -> &R {
        // SAFETY: The reader is valid while `self` is, by the type invariants.
        unsafe { self.reader.as_ref() }
    }

    /// The bytes from `pos` to the end of the 4 KiB block that `pos` is in, or to the end of the
    /// source.
    ///
    /// # Errors
    ///
    /// `EIO` if `pos` is not before the end, else what the reader returned.
    pub fn bytes(&self, pos: u64) -> Result<Bytes<'_>> {
        let max = self.size.checked_sub(pos).filter(|n| *n > 0).ok_or(EIO)?;
        let index = c_ulong::try_from(pos >> PAGE_SHIFT).map_err(|_| EFBIG)?;
        // SAFETY: The mapping is valid while we hold the inode. With no filler, the mapping's own
        // `read_folio` is used, which takes no file.
        let folio = from_err_ptr(unsafe {
            bindings::read_cache_folio(
                &raw mut (*self.inode.as_ptr()).i_data,
                index,
                None,
                core::ptr::null_mut(),
            )
        })?;
        let folio = NonNull::new(folio).ok_or(EIO)?;
        // SAFETY: `read_cache_folio` gave us a reference to a folio that is up to date. It is in
        // the low memory by `inode_nohighmem`, and by the type invariants in a page cache that
        // nobody else gets at.
        unsafe { Bytes::new(folio, pos, max) }
    }
}

impl<R: Reader> Drop for PrivateMapping<R> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants we hold the last reference; the inode is not hashed, so
        // it is evicted here with all its folios. After that nobody uses the reader, which came
        // from a box.
        unsafe {
            bindings::iput(self.inode.as_ptr());
            drop(KBox::from_raw(self.reader.as_ptr()));
        }
    }
}

/// Operation table of a [`PrivateMapping`].
struct AddressSpace<R>(PhantomData<R>);

impl<R: Reader> AddressSpace<R> {
    const OPERATIONS: bindings::address_space_operations = bindings::address_space_operations {
        read_folio: Some(Self::read_folio),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `folio` must be locked, not up to date, and in the mapping of a `PrivateMapping<R>`.
    unsafe extern "C" fn read_folio(
        _file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> c_int {
        let Some(ptr) = NonNull::new(folio) else {
            return EIO.to_errno();
        };
        // SAFETY: The folio is locked, so that it stays in its mapping, whose inode has a `R` in
        // `i_private` by the invariants of `PrivateMapping`.
        let (reader, size) = unsafe {
            let inode = bindings::folio_inode(folio);
            (
                &*(*inode).i_private.cast::<R>(),
                bindings::i_size_read(inode),
            )
        };
        // SAFETY: The caller promises it; the mapping has no folio in the high memory.
        let mut new = unsafe { NewFolio::from_raw(ptr) };
        let result = fill(reader, &mut new, u64::try_from(size).unwrap_or(0));
        // SAFETY: The folio is locked and not up to date; this unlocks it.
        unsafe { bindings::folio_end_read(folio, result.is_ok()) };
        match result {
            Ok(()) => 0,
            Err(e) => e.to_errno(),
        }
    }
}

/// Fills a folio of a source of `size` bytes, with zeros after its end.
fn fill<R: Reader>(reader: &R, folio: &mut NewFolio<'_>, size: u64) -> Result {
    let pos = folio.pos();
    let out = folio.bytes_mut();
    let want = usize::try_from(size.saturating_sub(pos))
        .unwrap_or(usize::MAX)
        .min(out.len());
    let (head, tail) = out.split_at_mut_checked(want).ok_or(EIO)?;
    tail.fill(0);
    // A source that has become shorter than it was at mount.
    if reader.read(pos, head)? != want {
        return Err(EIO);
    }
    Ok(())
}
