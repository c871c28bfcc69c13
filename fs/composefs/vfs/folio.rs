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

/// A folio that is locked and not yet up to date: what `->read_folio` has to fill.
///
/// # Invariants
///
/// `folio` is locked, not up to date, and in the low memory; nobody else writes to it or reads
/// from it while this object exists.
pub struct LockedFolio<'a> {
    folio: NonNull<bindings::folio>,
    _exclusive: PhantomData<&'a mut [u8]>,
}

impl LockedFolio<'_> {
    /// # Safety
    ///
    /// `folio` must be locked, not up to date, mapped into the kernel's address space, and stay so
    /// for the lifetime `'a`.
    pub(super) unsafe fn from_raw(folio: NonNull<bindings::folio>) -> Self {
        // INVARIANT: The caller promises it; a folio that is locked and not up to date is
        // accessed only by who has to fill it.
        let mut new = Self {
            folio,
            _exclusive: PhantomData,
        };
        // Whoever fills it may leave something out, and the memory may have anything in it.
        new.bytes_mut().fill(0);
        new
    }

    /// Offset in the file of the folio's first byte.
    pub fn pos(&self) -> u64 {
        // SAFETY: The folio is valid by the type invariants.
        let pos = unsafe { bindings::folio_pos(self.folio.as_ptr()) };
        u64::try_from(pos).unwrap_or(u64::MAX)
    }

    /// The folio's memory, all zeros at first.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let folio = self.folio.as_ptr();
        // SAFETY: The folio is valid and in the low memory, so that its address is that of
        // `folio_size()` contiguous bytes, to which only we have access by the type invariants.
        unsafe {
            core::slice::from_raw_parts_mut(
                bindings::folio_address(folio).cast(),
                bindings::folio_size(folio),
            )
        }
    }
}

/// A page of a folio that is up to date and that nobody will write to again.
///
/// # Invariants
///
/// Owns a reference to `folio`, which has a page at `address` whose bytes do not change while the
/// reference is held.
pub(super) struct CachedPage {
    folio: NonNull<bindings::folio>,
    address: NonNull<u8>,
}

impl CachedPage {
    /// Takes over a reference to `folio`. `None` if there is none.
    ///
    /// # Safety
    ///
    /// `folio` must be null, or the caller own a reference to it, it be up to date, in the low
    /// memory and in a page cache that fills each folio once and lets nobody else write to it, and
    /// a page of it be at `address`.
    #[inline]
    pub(super) unsafe fn new(folio: *mut bindings::folio, address: *mut c_void) -> Option<Self> {
        // INVARIANT: The caller promises it.
        Some(Self {
            folio: NonNull::new(folio)?,
            address: NonNull::new(address.cast())?,
        })
    }

    /// Returns the page's bytes from file offset `pos` on, which is in it, to the end of the 4 KiB
    /// block at `pos`, and `max` at the most.
    #[inline]
    pub(super) fn bytes<'a>(self, pos: u64, max: u64) -> Bytes<'a> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let offset = usize::try_from(pos & IN_PAGE).unwrap_or(0);
        let in_block = BLOCK_SIZE.saturating_sub(offset % BLOCK_SIZE);
        let me = ManuallyDrop::new(self);
        // INVARIANT: The reference is that of `self`. A page is one block or more, so that the rest
        // of the block is in it, and does not change by the type invariants of `self`.
        Bytes {
            folio: me.folio,
            // SAFETY: The offset is less than the size of the page that is there.
            start: unsafe { me.address.add(offset) },
            len: in_block.min(max),
            _mapping: PhantomData,
        }
    }
}

impl Drop for CachedPage {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: We own a reference by the type invariants, and do not use it again.
        unsafe { bindings::folio_put(self.folio.as_ptr()) };
    }
}

/// Some bytes of a folio that is up to date and that nobody will write to again.
///
/// # Invariants
///
/// Owns a reference to `folio`; `len` bytes from `start` on are within it and do not change
/// while the reference is held.
pub struct Bytes<'a> {
    folio: NonNull<bindings::folio>,
    start: NonNull<u8>,
    len: usize,
    _mapping: PhantomData<&'a ()>,
}

/// The bits of an offset in a file that tell where it is in its page.
const IN_PAGE: u64 = PAGE_SIZE as u64 - 1;

/// Unit in which [`Bytes`] are handed out, whatever the size of the folio behind them.
const BLOCK_SIZE: usize = 4096;

impl Deref for Bytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariants these bytes are valid and do not change while we hold
        // the reference.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Bytes<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: We own a reference by the type invariants, and do not use it again.
        unsafe { bindings::folio_put(self.folio.as_ptr()) };
    }
}
