// SPDX-License-Identifier: GPL-2.0
// error: E0200

//! An argument of a trace event whose value is a pointer to nothing.

use composefs_main::vfs::{bindings::rust_bytes, trace::Argument};

pub struct Nothing;

impl Argument for Nothing {
    type Value = *const rust_bytes;

    fn value(&self) -> Self::Value {
        core::ptr::without_provenance(1)
    }
}
