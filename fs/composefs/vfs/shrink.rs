// SPDX-License-Identifier: GPL-2.0

//! Memory that is asked back.
//!
//! C header: [`include/linux/shrinker.h`](srctree/include/linux/shrinker.h)

use super::bindings;
use core::marker::PhantomData;

/// What the shrinker of a super block is asked for: `struct shrink_control`.
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
    /// `control` must be that of a shrinker's callback, and be valid for the lifetime of the
    /// result.
    pub(super) unsafe fn from_raw(control: *const bindings::shrink_control) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            control,
            _control: PhantomData,
        }
    }

    pub(super) fn as_ptr(&self) -> *const bindings::shrink_control {
        self.control
    }
}
