// SPDX-License-Identifier: GPL-2.0

//! Large folios of a page cache that are found without a search of it.
//!
//! C header: `kept_folios.h`

use super::{
    bindings,
    folio::CachedPage, //
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// The large folios of a page cache that were used. They are found without a search of it, and
/// without writing to memory that other processors read: a page that was found is kept by a
/// counter of this processor.
///
/// # Invariants
///
/// `rust_helper_init_kept_folios()` has initialised it for a mapping. After that only the C
/// functions change it. `whole` does not change.
#[repr(transparent)]
pub(super) struct KeptFolios(Opaque<bindings::rust_kept_folios>);

impl KeptFolios {
    /// Creates an empty set for `mapping`, which has `pages` pages, and whose largest folios have
    /// the order `whole`. It takes over the operations of the mapping.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `mapping` must be valid until [`Self::free`] was called, and new: nothing else accesses it.
    /// [`Self::free`] must be called before the result is dropped.
    pub(super) unsafe fn new(
        mapping: *mut bindings::address_space,
        pages: c_ulong,
        whole: c_uint,
    ) -> Result<Self> {
        let mut all = bindings::rust_kept_folios {
            whole,
            ..pin_init::zeroed()
        };
        // SAFETY: It is zeroed but for `whole`. The mapping is new.
        to_result(unsafe { bindings::init_kept_folios(&raw mut all, mapping, pages) })?;
        // INVARIANT: It is initialised.
        Ok(Self(Opaque::new(all)))
    }

    /// Removes all folios from the page cache, and frees the memory of this set.
    ///
    /// # Safety
    ///
    /// `mapping` must be that of [`Self::new`], and no page that was found may be left. Nothing
    /// may be called after this.
    pub(super) unsafe fn free(&mut self, mapping: *mut bindings::address_space) {
        // SAFETY: By the type invariants `self` is initialised. Nothing uses the folios.
        unsafe { bindings::free_kept_folios(self.0.get(), mapping) };
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
    /// `mapping` must be that of [`Self::new`]. Its folios must be in low memory, and not
    /// be written to once they are up to date.
    #[inline]
    pub(super) unsafe fn find(
        &self,
        mapping: *mut bindings::address_space,
        index: c_ulong,
    ) -> Option<CachedPage> {
        let mut address = core::ptr::null_mut();
        // SAFETY: The mapping is valid. By the type invariants `self` is initialised.
        let keeper =
            unsafe { bindings::find_kept_page(mapping, self.0.get(), index, &raw mut address) };
        // SAFETY: If it is not null, it keeps the page at `address`, which is up to date. Nothing
        // writes to it.
        unsafe { CachedPage::new(keeper, address) }
    }

    /// Keeps `folio` if it is a large one, and returns its page at `offset`. Takes over a reference
    /// to the folio.
    ///
    /// # Safety
    ///
    /// The caller must own a reference to `folio`, which is one of the mapping of [`Self::new`]. It
    /// must be up to date, in low memory, and not be written to again. `offset` must be that of one
    /// of its pages, in bytes.
    pub(super) unsafe fn add(
        &self,
        folio: NonNull<bindings::folio>,
        offset: usize,
    ) -> Option<CachedPage> {
        let folio = folio.as_ptr();
        // SAFETY: The function takes its own reference. By the type invariants `self` is
        // initialised.
        unsafe { bindings::keep_folio(self.0.get(), folio) };
        // SAFETY: A folio in low memory has its pages in a row, and has one at `offset`.
        let address = unsafe { bindings::folio_address(folio).byte_add(offset) };
        // SAFETY: The reference is owned, and keeps the page. Nothing writes to the folio.
        unsafe { CachedPage::new(folio.cast(), address) }
    }
}
