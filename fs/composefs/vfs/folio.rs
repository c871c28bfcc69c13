// SPDX-License-Identifier: GPL-2.0

//! Folios of a page cache.
//!
//! C header: [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::bindings;
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::prelude::*;

/// A folio that is locked and not yet up to date: what `->read_folio` has to fill.
///
/// # Invariants
///
/// `folio` is locked, not up to date, and in the low memory; nobody else writes to it or reads
/// from it while this object exists.
pub struct NewFolio<'a> {
    folio: NonNull<bindings::folio>,
    _exclusive: PhantomData<&'a mut [u8]>,
}

impl NewFolio<'_> {
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

impl Bytes<'_> {
    /// Takes over a reference to `folio` and shows its bytes from file offset `pos` on, `max` at
    /// most, to the end of the 4 KiB block at `pos` at most.
    ///
    /// # Errors
    ///
    /// `EIO` if `pos` is not within the folio.
    ///
    /// # Safety
    ///
    /// The caller owns a reference to `folio`, which is up to date, in the low memory and in a
    /// page cache that fills each folio once and lets nobody else write to it.
    pub(super) unsafe fn new(folio: NonNull<bindings::folio>, pos: u64, max: u64) -> Result<Self> {
        let (mut folio_pos, mut size) = (0, 0);
        // SAFETY: The caller owns a reference.
        let address = unsafe {
            bindings::folio_place(folio.as_ptr(), &raw mut folio_pos, &raw mut size).cast::<u8>()
        };
        // The folio may be large, and then starts before the page that was asked for.
        let offset = u64::try_from(folio_pos)
            .ok()
            .and_then(|start| pos.checked_sub(start))
            .and_then(|offset| usize::try_from(offset).ok())
            .filter(|offset| *offset < size);
        let (Some(offset), Some(address)) = (offset, NonNull::new(address)) else {
            // SAFETY: The caller's reference is ours to drop.
            unsafe { bindings::folio_put(folio.as_ptr()) };
            return Err(EIO);
        };
        let in_block = BLOCK_SIZE.saturating_sub(offset % BLOCK_SIZE);
        let len = in_block
            .min(size.saturating_sub(offset))
            .min(usize::try_from(max).unwrap_or(usize::MAX));
        // INVARIANT: `offset + len <= size`; the caller promises the rest.
        Ok(Self {
            folio,
            // SAFETY: `offset` is less than the folio's size.
            start: unsafe { address.add(offset) },
            len,
            _mapping: PhantomData,
        })
    }
}

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
