// SPDX-License-Identifier: GPL-2.0

//! Rate-limited messages to the kernel log.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use super::{
    bindings,
    FileSystem, //
};
use core::pin::Pin;
use kernel::{
    prelude::*,
    types::Opaque, //
};

/// A rate limit: `struct ratelimit_state`. Messages under different limits do not suppress each
/// other.
///
/// # Invariants
///
/// The state, if there is one, is initialised. Without one it is the common limit.
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

/// Writes `message` as a warning of the file system `T` to the kernel log, unless the limit is
/// reached.
pub fn warn<T: FileSystem>(limit: &Limit, message: &CStr) {
    let prefix = T::NAME.as_char_ptr();
    // SAFETY: The state is initialised by the type invariants, or static. The name is a C string.
    let permitted = unsafe {
        let state = match &limit.0 {
            Some(state) => state.get(),
            None => bindings::common_ratelimit_state(),
        };
        bindings::___ratelimit(state, prefix) != 0
    };
    if permitted {
        // SAFETY: Both are C strings.
        unsafe { bindings::pr_warn(prefix, message.as_char_ptr()) };
    }
}
