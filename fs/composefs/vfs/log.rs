// SPDX-License-Identifier: GPL-2.0

//! Rate-limited messages to the kernel log, which the tracepoint `composefs_fault` has all of.

use super::bindings;
use kernel::{
    fmt,
    prelude::*,
    str::CString, //
};

/// Writes a warning to the kernel log, unless too many were written in a short time.
///
/// A message that cannot be allocated is lost: what it is about is reported by an error as well.
pub fn warn(args: fmt::Arguments<'_>) {
    if let Ok(message) = CString::try_from_fmt(args) {
        // SAFETY: The message is a valid C string, which the function does not keep.
        unsafe { bindings::warn_and_trace(message.as_char_ptr()) };
    }
}
