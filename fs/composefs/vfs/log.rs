// SPDX-License-Identifier: GPL-2.0

//! Rate-limited messages to the kernel log, which the tracepoint `composefs_fault` has all of.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use super::bindings;
use core::pin::Pin;
use kernel::{
    fmt,
    prelude::*,
    str::CString,
    types::Opaque, //
};

/// How often something may be said. Those who have a limit each cannot silence each other.
///
/// # Invariants
///
/// The state, if there is one, is initialised.
pub struct Limit(Option<Pin<KBox<Opaque<bindings::ratelimit_state>>>>);

// SAFETY: A `struct ratelimit_state` has a lock of its own, and may be used and freed from any
// thread.
unsafe impl Send for Limit {}

// SAFETY: As above.
unsafe impl Sync for Limit {}

impl Limit {
    /// Makes a limit of its own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let init = Opaque::ffi_init(|state| {
            // SAFETY: The memory is ours and as large as a state.
            unsafe { bindings::ratelimit_default_init(state) };
        });
        // INVARIANT: It was initialised.
        Ok(Self(Some(KBox::pin_init(init, GFP_KERNEL_ACCOUNT)?)))
    }

    /// The limit that all have in common who are not worth one of their own.
    pub fn common() -> Self {
        // INVARIANT: There is no state.
        Self(None)
    }
}

/// Writes a warning to the kernel log, unless too many were written in a short time.
///
/// A message that cannot be allocated is lost: what it is about is reported by an error as well.
pub fn warn(limit: &Limit, args: fmt::Arguments<'_>) {
    if let Ok(message) = CString::try_from_fmt(args) {
        let state = match &limit.0 {
            Some(state) => state.get(),
            None => core::ptr::null_mut(),
        };
        // SAFETY: The state is null or initialised by the type invariants, and the message a valid
        // C string, which the function does not keep.
        unsafe { bindings::warn_and_trace(state, message.as_char_ptr()) };
    }
}
