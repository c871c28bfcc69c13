// SPDX-License-Identifier: GPL-2.0

//! Folios of a page cache.
//!
//! C header: [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// A folio that `->read_folio` must fill: locked, and not up to date.
///
/// # Invariants
///
/// `folio` is locked, not up to date, and in low memory. While this object exists, nothing else
/// accesses its bytes.
pub struct LockedFolio<'a> {
    folio: NonNull<bindings::folio>,
    _exclusive: PhantomData<&'a mut [u8]>,
}

impl LockedFolio<'_> {
    /// # Safety
    ///
    /// `folio` must be locked, not up to date and in low memory as long as the result lives.
    pub(super) unsafe fn from_raw(folio: NonNull<bindings::folio>) -> Self {
        // INVARIANT: Only the holder of the lock accesses a folio that is not up to date.
        let mut new = Self {
            folio,
            _exclusive: PhantomData,
        };
        // The file system may fill only a part, and the memory may hold old data.
        new.bytes_mut().fill(0);
        new
    }

    /// Returns the offset in the file of the first byte.
    pub fn pos(&self) -> u64 {
        // SAFETY: The folio is valid by the type invariants.
        let pos = unsafe { bindings::folio_pos(self.folio.as_ptr()) };
        u64::try_from(pos).unwrap_or(u64::MAX)
    }

    /// Returns the bytes. They are zeros at first.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let folio = self.folio.as_ptr();
        // SAFETY: The folio is in low memory, so it has `folio_size()` contiguous bytes. By the
        // type invariants nothing else accesses them.
        unsafe {
            core::slice::from_raw_parts_mut(
                bindings::folio_address(folio).cast(),
                bindings::folio_size(folio),
            )
        }
    }
}

/// A page of a folio that is up to date and is not written to again.
///
/// # Invariants
///
/// Owns `keeper`, a reference to the folio or to what owns one, for
/// `rust_helper_put_kept_page()`. The page at `address` belongs to the folio, and its bytes do not
/// change while the reference is held.
pub(super) struct CachedPage {
    keeper: NonNull<c_void>,
    address: NonNull<u8>,
}

impl CachedPage {
    /// Takes over `keeper`. `None` if it is null.
    ///
    /// # Safety
    ///
    /// `keeper` must be null or satisfy all of: the caller owns it, and it is a reference to a
    /// folio, as a pointer to the folio, or what `rust_helper_find_kept_page()` has returned; the
    /// folio is up to date and in low memory; its page cache fills each folio once, and nothing
    /// else writes to it; `address` is the address of one of its pages. The result must not
    /// outlive the page cache.
    #[inline]
    pub(super) unsafe fn new(keeper: *mut c_void, address: *mut c_void) -> Option<Self> {
        // INVARIANT: `keeper` is owned, and the page belongs to the folio and does not change.
        Some(Self {
            keeper: NonNull::new(keeper)?,
            address: NonNull::new(address.cast())?,
        })
    }

    /// Returns the page's bytes from file offset `pos` on, which is in it, to the end of the block
    /// at `pos`, but at most `max` bytes.
    #[inline]
    pub(super) fn bytes<'a, const BLOCK_SIZE: u64>(self, pos: u64, max: u64) -> Bytes<'a> {
        const {
            assert!(BLOCK_SIZE.is_power_of_two() && BLOCK_SIZE <= PAGE_SIZE as u64);
        }

        // Cannot fail: both are at most the page size.
        let offset = usize::try_from(pos & IN_PAGE).unwrap_or(0);
        let rest = BLOCK_SIZE
            .saturating_sub(pos & BLOCK_SIZE.wrapping_sub(1))
            .min(max);
        let len = usize::try_from(rest).unwrap_or(0);
        let me = ManuallyDrop::new(self);
        // INVARIANT: `keeper` is that of `self`. A page has one block or more, so the rest of the
        // block is in it. By the type invariants of `self` it does not change.
        Bytes {
            keeper: me.keeper,
            // SAFETY: The offset is less than the size of the page.
            start: unsafe { me.address.add(offset) },
            len,
            _mapping: PhantomData,
        }
    }
}

impl Drop for CachedPage {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants the keeper is owned. It is not used again.
        unsafe { bindings::put_kept_page(self.keeper.as_ptr()) };
    }
}

/// Bytes of a folio that is up to date and is not written to again.
///
/// # Invariants
///
/// Owns `keeper`, as a [`CachedPage`] does. The `len` bytes from `start` on are within the folio,
/// and do not change while the reference is held.
pub struct Bytes<'a> {
    keeper: NonNull<c_void>,
    start: NonNull<u8>,
    len: usize,
    _mapping: PhantomData<&'a ()>,
}

/// Mask of the offset in a page.
const IN_PAGE: u64 = PAGE_SIZE as u64 - 1;

impl Deref for Bytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariants these bytes are valid, and do not change while the
        // reference is held.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Bytes<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants the keeper is owned. It is not used again.
        unsafe { bindings::put_kept_page(self.keeper.as_ptr()) };
    }
}
