// SPDX-License-Identifier: GPL-2.0

//! Values that are set once.

use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        AtomicFlag,
        Full,
        Release, //
    }, //
};

/// A box that is set at most once, by the first of several tasks.
///
/// Unlike [`kernel::sync::SetOnce`] it is one word, and has no state in which it is being set: a
/// task that loses the race gets the value of the winner at once.
///
/// # Invariants
///
/// The pointer is null or came from [`KBox::into_raw`], and is changed only from null.
#[repr(transparent)]
pub struct OnceBox<T> {
    ptr: Atomic<*mut T>,
    _owns: PhantomData<KBox<T>>,
}

// SAFETY: A `OnceBox<T>` owns a `KBox<T>`.
unsafe impl<T: Send> Send for OnceBox<T> {}

// SAFETY: Through a shared reference several threads get `&T`, and one thread can set a value that
// another thread drops.
unsafe impl<T: Send + Sync> Sync for OnceBox<T> {}

impl<T> Default for OnceBox<T> {
    fn default() -> Self {
        // INVARIANT: The pointer is null.
        Self {
            ptr: Atomic::new(ptr::null_mut()),
            _owns: PhantomData,
        }
    }
}

impl<T> OnceBox<T> {
    /// Returns the value, if it is set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: By the type invariants the pointer is null or from a `KBox`, and once not null
        // it stays until `self` is dropped or borrowed mutably. The acquire pairs with the full
        // ordering of `set`.
        unsafe { self.ptr.load(Acquire).as_ref() }
    }

    /// Sets the value unless it is set already. Returns the value that is set then: `value`, or the
    /// one that another task has set.
    pub fn get_or_set(&self, value: KBox<T>) -> &T {
        let raw = KBox::into_raw(value);
        // INVARIANT: The pointer comes from a box and replaces null only.
        match self.ptr.cmpxchg(ptr::null_mut(), raw, Full) {
            // SAFETY: The pointer came from `KBox::into_raw`, and is owned by `self` now.
            Ok(_) => unsafe { &*raw },
            Err(first) => {
                // SAFETY: The exchange failed, so no other task has seen the box.
                drop(unsafe { KBox::from_raw(raw) });
                // SAFETY: The pointer was not null, so it came from a box that `self` owns.
                unsafe { &*first }
            }
        }
    }

    /// Takes the value out.
    pub fn take(&mut self) -> Option<KBox<T>> {
        let raw = core::mem::replace(self.ptr.get_mut(), ptr::null_mut());
        if raw.is_null() {
            return None;
        }
        // SAFETY: By the type invariants the pointer came from `KBox::into_raw`. It was replaced by
        // null, so it becomes a box only once.
        Some(unsafe { KBox::from_raw(raw) })
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// A flag that is set once and never cleared.
pub struct OnceFlag(AtomicFlag);

impl Default for OnceFlag {
    fn default() -> Self {
        Self(AtomicFlag::new(false))
    }
}

impl OnceFlag {
    /// Whether it is set. If it is, all writes before [`Self::set`] are visible.
    #[inline]
    pub fn get(&self) -> bool {
        self.0.load(Acquire)
    }

    /// Sets it.
    #[inline]
    pub fn set(&self) {
        self.0.store(true, Release);
    }
}
