// SPDX-License-Identifier: GPL-2.0

//! Hashes that are not cryptographic.
//!
//! C header: [`include/linux/xxhash.h`](srctree/include/linux/xxhash.h)

use super::bindings;

/// Returns the xxHash32 of `data`.
pub fn xxh32(data: &[u8], seed: u32) -> u32 {
    // SAFETY: `data` has `data.len()` bytes.
    unsafe { bindings::xxh32(data.as_ptr().cast(), data.len(), seed) }
}
