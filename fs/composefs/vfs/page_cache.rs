// SPDX-License-Identifier: GPL-2.0

//! Folios of a page cache that are added, filled and removed.
//!
//! C header: [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::bindings;
use core::{
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*, //
};

/// A folio of a page cache, to which a reference is held.
///
/// # Invariants
///
/// Owns a reference to the folio.
struct FoundFolio(NonNull<bindings::folio>);

impl FoundFolio {
    /// Returns the folio with page `index`, up to date or not, if there is one.
    ///
    /// # Safety
    ///
    /// `mapping` must be valid.
    unsafe fn find(mapping: *mut bindings::address_space, index: c_ulong) -> Option<Self> {
        // SAFETY: The mapping is valid.
        let folio = from_err_ptr(unsafe { bindings::filemap_get_folio(mapping, index) });
        // INVARIANT: The function took a reference.
        NonNull::new(folio.ok()?).map(Self)
    }
}

impl Drop for FoundFolio {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is owned. It is not used again.
        unsafe { bindings::folio_put(self.0.as_ptr()) };
    }
}

/// Removes the folio with page `index` from the page cache, also if it is in use. Returns whether
/// no folio has the page then: a locked folio is not removed.
///
/// # Safety
///
/// `mapping` must be that of a valid regular file.
pub(super) unsafe fn remove_page(mapping: *mut bindings::address_space, index: c_ulong) -> bool {
    // SAFETY: The mapping is valid.
    let Some(folio) = (unsafe { FoundFolio::find(mapping, index) }) else {
        return true;
    };
    let folio = folio.0.as_ptr();
    // SAFETY: There is a reference to the folio.
    let is_locked = unsafe { bindings::folio_trylock(folio) };
    if is_locked {
        // It does nothing if the folio was removed from the mapping meanwhile.
        // SAFETY: The folio is locked.
        unsafe {
            bindings::generic_error_remove_folio(mapping, folio);
            bindings::folio_unlock(folio);
        }
    }
    is_locked
}

/// Waits until the folio with page `index`, if there is one, is up to date or not locked any more.
/// Returns whether it had to wait.
///
/// # Errors
///
/// `EINTR` if a fatal signal is pending.
///
/// # Safety
///
/// `mapping` must be valid.
pub(super) unsafe fn wait_for_page(
    mapping: *mut bindings::address_space,
    index: c_ulong,
) -> Result<bool> {
    // SAFETY: The mapping is valid.
    let Some(folio) = (unsafe { FoundFolio::find(mapping, index) }) else {
        return Ok(false);
    };
    let folio = folio.0.as_ptr();
    // SAFETY: There is a reference to the folio.
    if unsafe { bindings::folio_test_uptodate(folio) } {
        return Ok(false);
    }
    // SAFETY: There is a reference to the folio.
    to_result(unsafe { bindings::folio_wait_locked_killable(folio) })?;
    Ok(true)
}

/// A folio in the page cache that is being filled. Unless it is finished, dropping it removes it
/// from the page cache.
///
/// # Invariants
///
/// Owns a reference to the folio, which is in `mapping`, locked, not up to date, and in low memory.
pub(super) struct FillingFolio {
    mapping: *mut bindings::address_space,
    folio: NonNull<bindings::folio>,
}

impl FillingFolio {
    /// Allocates a folio of `1 << order` pages and adds it to `mapping` at page `start`. `None` if
    /// one of its pages is in the page cache already.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `mapping` must be valid as long as the result lives, allow folios of this order, and have no
    /// folios in high memory. `start` must be a multiple of `1 << order`.
    pub(super) unsafe fn add(
        mapping: *mut bindings::address_space,
        start: c_ulong,
        order: c_uint,
    ) -> Result<Option<Self>> {
        // Pages beyond the one that is needed are not worth an OOM kill.
        // SAFETY: The mapping is valid.
        let gfp = unsafe {
            match order {
                0 => bindings::mapping_gfp_mask(mapping),
                _ => bindings::readahead_gfp_mask(mapping),
            }
        };
        // SAFETY: The function only allocates.
        let folio = unsafe { bindings::filemap_alloc_folio(gfp, order) };
        let folio = NonNull::new(folio).ok_or(ENOMEM)?;
        // The nodes of the page cache are never in high memory.
        let gfp = match order {
            // SAFETY: The mapping is valid.
            0 => unsafe { bindings::mapping_gfp_constraint(mapping, bindings::GFP_KERNEL) },
            _ => gfp,
        };
        // SAFETY: The folio is new, and `start` is a multiple of its number of pages.
        let added =
            to_result(unsafe { bindings::filemap_add_folio(mapping, folio.as_ptr(), start, gfp) });
        if let Err(e) = added {
            // SAFETY: The folio was not added, and the reference is owned.
            unsafe { bindings::folio_put(folio.as_ptr()) };
            return if e == EEXIST { Ok(None) } else { Err(e) };
        }
        // INVARIANT: Adding it has locked it, and has taken another reference.
        Ok(Some(Self { mapping, folio }))
    }

    /// Returns the memory of the folio, which is not initialised.
    pub(super) fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: By the type invariants the folio is in low memory. It is locked and not up to
        // date, so nothing else accesses its memory.
        unsafe {
            core::slice::from_raw_parts_mut(
                bindings::folio_address(self.folio.as_ptr()).cast(),
                bindings::folio_size(self.folio.as_ptr()),
            )
        }
    }

    /// Marks the folio as up to date and unlocks it. Returns the reference.
    ///
    /// # Safety
    ///
    /// All of [`Self::memory`] must be initialised.
    pub(super) unsafe fn finish(self) -> NonNull<bindings::folio> {
        let folio = ManuallyDrop::new(self).folio;
        // SAFETY: By the type invariants the folio is locked and not up to date.
        unsafe { bindings::folio_end_read(folio.as_ptr(), true) };
        folio
    }
}

impl Drop for FillingFolio {
    fn drop(&mut self) {
        let folio = self.folio.as_ptr();
        // SAFETY: By the type invariants the folio is in the mapping and locked, and the reference
        // is owned. Tasks that wait for the lock look the page up again.
        unsafe {
            bindings::generic_error_remove_folio(self.mapping, folio);
            bindings::folio_unlock(folio);
            bindings::folio_put(folio);
        }
    }
}
