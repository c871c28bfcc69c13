// SPDX-License-Identifier: GPL-2.0

//! The folios of a page cache that were used last.
//!
//! C header: `recent_folios.h`

use super::{
    bindings,
    folio::CachedPage,
    shrink::Shrink, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    types::Opaque, //
};

/// The folios that were used last, found without a search of the page cache: a walk of a directory
/// alternates between its names and their inodes. The references keep them in memory, half a
/// megabyte at most, so the shrinker of the super block frees them.
///
/// # Invariants
///
/// Each pointer is null or that of a folio to which a reference is owned. Only the C functions
/// change the pointers, atomically. `whole` does not change.
#[repr(transparent)]
pub(super) struct RecentFolios(Opaque<bindings::rust_recent_folios>);

impl RecentFolios {
    /// Creates an empty set for a mapping whose largest folios have the order `whole`.
    pub(super) fn new(whole: c_uint) -> Self {
        // INVARIANT: All pointers are null.
        Self(Opaque::new(bindings::rust_recent_folios {
            whole,
            ..pin_init::zeroed()
        }))
    }

    /// Returns the order of the largest folios.
    pub(super) fn whole(&self) -> c_uint {
        // SAFETY: By the type invariants it does not change.
        unsafe { (*self.0.get()).whole }
    }

    /// Whether smaller folios were looked up so often that reading a whole one pays off. If so, the
    /// count starts again.
    pub(super) fn take_many_finds(&self) -> bool {
        // SAFETY: The count is a heuristic that is read and written without ordering, here and in
        // C.
        unsafe {
            let finds = &raw mut (*self.0.get()).finds;
            if finds.read_volatile() < bindings::FINDS_MAX {
                return false;
            }
            finds.write_volatile(0);
        }
        true
    }

    /// Returns page `index` of `mapping` if it is up to date, from these folios or the page cache.
    ///
    /// # Safety
    ///
    /// `mapping` must be valid and the same in all calls. Its folios must be in low memory, and not
    /// be written to once they are up to date.
    #[inline]
    pub(super) unsafe fn find(
        &self,
        mapping: *mut bindings::address_space,
        index: c_ulong,
    ) -> Option<CachedPage> {
        let mut address = core::ptr::null_mut();
        // SAFETY: The mapping is valid. By the type invariants the pointers are those of folios.
        let folio =
            unsafe { bindings::find_cache_folio(mapping, self.0.get(), index, &raw mut address) };
        // SAFETY: If it is not null, the function took a reference to a folio that is up to date,
        // and `address` is that of its page `index`. Nothing writes to it.
        unsafe { CachedPage::new(folio, address) }
    }

    /// Adds `folio`, and returns its page at `offset`. Takes over a reference to the folio.
    ///
    /// # Safety
    ///
    /// The caller must own a reference to `folio`, which is one of the same mapping as in all
    /// calls. It must be up to date, in low memory, and not be written to again. `offset` must be
    /// that of one of its pages, in bytes.
    pub(super) unsafe fn add(
        &self,
        folio: NonNull<bindings::folio>,
        offset: usize,
    ) -> Option<CachedPage> {
        let folio = folio.as_ptr();
        // SAFETY: The function takes its own reference.
        unsafe { bindings::set_recent_folio(self.0.get(), folio) };
        // SAFETY: A folio in low memory has its pages in a row, and has one at `offset`.
        let address = unsafe { bindings::folio_address(folio).byte_add(offset) };
        // SAFETY: The reference is owned. Nothing writes to the folio.
        unsafe { CachedPage::new(folio, address) }
    }

    /// Counts the pages of these folios that `shrink` can free.
    pub(super) fn count_pages(&self, shrink: &Shrink<'_>) -> usize {
        // SAFETY: By the type invariants the pointers are those of folios.
        unsafe { bindings::count_recent_pages(self.0.get(), shrink.as_ptr()) }
    }

    /// Drops the folios that `shrink` can free, or all of them. Returns the number of pages.
    ///
    /// # Safety
    ///
    /// `mapping` must be valid and the same in all calls.
    pub(super) unsafe fn free_pages(
        &self,
        mapping: *mut bindings::address_space,
        shrink: Option<&Shrink<'_>>,
    ) -> usize {
        let shrink = shrink.map_or(core::ptr::null(), Shrink::as_ptr);
        // SAFETY: The mapping is valid. By the type invariants the pointers are those of folios.
        unsafe { bindings::free_recent_pages(self.0.get(), mapping, shrink) }
    }
}
