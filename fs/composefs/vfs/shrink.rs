// SPDX-License-Identifier: GPL-2.0

//! Memory reclaim.
//!
//! C header: [`include/linux/shrinker.h`](srctree/include/linux/shrinker.h)

use super::bindings;
use core::marker::PhantomData;

/// A call of the shrinker of a super block: `struct shrink_control`.
///
/// # Invariants
///
/// `control` is valid for `'a`.
pub struct Shrink<'a> {
    control: *const bindings::shrink_control,
    _control: PhantomData<&'a bindings::shrink_control>,
}

impl Shrink<'_> {
    /// # Safety
    ///
    /// `control` must be the argument of a shrinker's callback, and valid for the lifetime of the
    /// result.
    pub(super) unsafe fn from_raw(control: *const bindings::shrink_control) -> Self {
        // INVARIANT: `control` is valid as long as the result.
        Self {
            control,
            _control: PhantomData,
        }
    }

    pub(super) fn as_ptr(&self) -> *const bindings::shrink_control {
        self.control
    }
}
