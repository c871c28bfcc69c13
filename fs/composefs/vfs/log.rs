// SPDX-License-Identifier: GPL-2.0

//! Rate-limited messages to the kernel log.
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

/// A rate limit: `struct ratelimit_state`. Messages under different limits do not suppress each
/// other.
///
/// # Invariants
///
/// The state, if there is one, is initialised.
pub struct Limit(Option<Pin<KBox<Opaque<bindings::ratelimit_state>>>>);

// SAFETY: A `struct ratelimit_state` has its own lock, and may be used and freed by any thread.
unsafe impl Send for Limit {}

// SAFETY: As above.
unsafe impl Sync for Limit {}

impl Limit {
    /// Creates a limit.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let init = Opaque::ffi_init(|state| {
            // SAFETY: `state` is memory for a `struct ratelimit_state`.
            unsafe { bindings::ratelimit_default_init(state) };
        });
        // INVARIANT: `init` initialises the state.
        Ok(Self(Some(KBox::pin_init(init, GFP_KERNEL_ACCOUNT)?)))
    }

    /// Returns the limit that all callers of this function share.
    pub fn common() -> Self {
        // INVARIANT: There is no state.
        Self(None)
    }
}

/// Writes a warning to the kernel log, unless the limit is reached.
///
/// A message for which there is no memory is lost. Callers report the problem by an error, too.
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
