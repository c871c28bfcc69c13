// SPDX-License-Identifier: GPL-2.0

//! Trace events of a file system.
//!
//! A file system defines its events in C, by `TRACE_EVENT()` with `CREATE_RUST_TRACE_POINTS`, and
//! declares safe functions that emit them by [`trace_events!`]. The kernel crate's `declare_trace!`
//! declares unsafe ones, and needs the events in the bindings of the kernel.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use super::bindings;
use kernel::prelude::*;

/// An argument of a trace event.
///
/// # Safety
///
/// The value must be one that any event with a parameter of its type can take, as long as the
/// argument exists: [`trace_events!`] passes it to C.
pub unsafe trait Argument {
    /// The value that is passed to C.
    type Value;

    /// Converts the argument.
    fn value(&self) -> Self::Value;
}

macro_rules! integer_arguments {
    ($($type:ty)*) => {$(
        // SAFETY: All values of an integer are valid.
        unsafe impl Argument for $type {
            type Value = Self;

            #[inline]
            fn value(&self) -> Self {
                *self
            }
        }
    )*};
}

integer_arguments! { u32 u64 c_int }

/// Bytes: `const struct rust_bytes *`.
pub struct Bytes<'a>(bindings::rust_bytes, core::marker::PhantomData<&'a [u8]>);

impl<'a> From<&'a [u8]> for Bytes<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self(
            bindings::rust_bytes {
                data: bytes.as_ptr().cast(),
                // A slice that is too long is truncated.
                len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            },
            core::marker::PhantomData,
        )
    }
}

// SAFETY: The pointer is that of a `struct rust_bytes` in the argument, which borrows its bytes.
unsafe impl Argument for Bytes<'_> {
    type Value = *const bindings::rust_bytes;

    #[inline]
    fn value(&self) -> Self::Value {
        &raw const self.0
    }
}

/// Whether a trace event is enabled.
///
/// # Safety
///
/// `tracepoint` must be a tracepoint that is defined in C.
#[cfg(CONFIG_TRACEPOINTS)]
#[doc(hidden)]
#[inline]
pub unsafe fn is_enabled(tracepoint: *const bindings::tracepoint) -> bool {
    // SAFETY: The tracepoint is valid. The count of its key is read as `static_key_count()` does.
    unsafe { (&raw const (*tracepoint).key.key.enabled.counter).read_volatile() > 0 }
}

/// Declares safe functions that emit trace events.
///
/// Each argument is an integer or [`Bytes`], and must have the type of the event's argument.
/// Nothing is called while the event is disabled.
///
/// # Examples
///
/// ```ignore
/// trace_events! {
///     /// A name was looked up.
///     pub(crate) fn lookup(dir: u64, name: Bytes<'_>) = myfs_lookup;
/// }
/// ```
#[macro_export]
macro_rules! trace_events {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $type:ty),*) = $event:ident;
    )*) => {$(
        $(#[$attribute])*
        #[inline]
        #[allow(unsafe_code)]
        $visibility fn $name($($argument: $type),*) {
            #[cfg(CONFIG_TRACEPOINTS)]
            ::kernel::macros::paste! {
                // SAFETY: bindgen names only tracepoints like this.
                if unsafe {
                    $crate::vfs::trace::is_enabled(
                        &raw const $crate::vfs::bindings::[< __tracepoint_ $event >],
                    )
                } {
                    $(let $argument = $crate::vfs::trace::Argument::value(&$argument);)*
                    // SAFETY: A function of this name only emits the event. It has no requirements
                    // but valid arguments: integers, and bytes that are valid during the call.
                    unsafe { $crate::vfs::bindings::[< rust_do_trace_ $event >]($($argument),*) };
                }
            }
            #[cfg(not(CONFIG_TRACEPOINTS))]
            {
                $(let _ = $argument;)*
            }
        }
    )*};
}

pub use trace_events;
