// SPDX-License-Identifier: GPL-2.0

//! What is set once.

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

/// An empty place that is filled at most once with a box, by whoever comes first.
///
/// Unlike [`kernel::sync::SetOnce`] it is one word, and the one who comes second gets the first
/// one's value at once instead of finding the place neither empty nor full.
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

// SAFETY: Shared access gives `&T` to several threads, and lets one thread put in what another
// one drops.
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
    /// Returns what is in, if anything is.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: By the type invariants the pointer is null or from a `KBox`, and once not null
        // it stays until `self` is dropped or borrowed mutably. The acquire pairs with the full
        // ordering of `set`.
        unsafe { self.ptr.load(Acquire).as_ref() }
    }

    /// Puts `value` in if the place is empty, and returns what is in it then: `value`, or what
    /// another one put in before.
    pub fn get_or_set(&self, value: KBox<T>) -> &T {
        let raw = KBox::into_raw(value);
        // INVARIANT: The pointer comes from a box and replaces null only.
        match self.ptr.cmpxchg(ptr::null_mut(), raw, Full) {
            // SAFETY: The pointer came from `KBox::into_raw`, and is owned by `self` now.
            Ok(_) => unsafe { &*raw },
            Err(first) => {
                // SAFETY: The exchange failed, so the box is still ours alone.
                drop(unsafe { KBox::from_raw(raw) });
                // SAFETY: The pointer was not null, so it came from a box that `self` owns.
                unsafe { &*first }
            }
        }
    }

    /// Empties the place.
    pub fn take(&mut self) -> Option<KBox<T>> {
        let raw = core::mem::replace(self.ptr.get_mut(), ptr::null_mut());
        if raw.is_null() {
            return None;
        }
        // SAFETY: By the type invariants the pointer came from `KBox::into_raw`; it is no longer
        // in the place, so nobody else makes a box of it.
        Some(unsafe { KBox::from_raw(raw) })
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// A fact that is not known at first.
pub struct OnceFlag(AtomicFlag);

impl Default for OnceFlag {
    fn default() -> Self {
        Self(AtomicFlag::new(false))
    }
}

impl OnceFlag {
    /// Whether it is known. What was done before it was set is seen then.
    #[inline]
    pub fn get(&self) -> bool {
        self.0.load(Acquire)
    }

    /// Says that it is so.
    #[inline]
    pub fn set(&self) {
        self.0.store(true, Release);
    }
}
