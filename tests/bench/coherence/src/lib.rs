// SPDX-License-Identifier: GPL-2.0

//! A plugin for QEMU that counts coherence misses: reads of the guest's kernel from a line that
//! another processor has changed, and writes to a line that another processor holds. The model
//! is in `caches.rs`; `cargo xtask bench coherence` builds, loads and reads it.

mod caches;
mod calls;
#[cfg_attr(test, allow(dead_code, reason = "the plugin alone uses it"))]
mod instruction;
mod model;
// Its symbols are in QEMU, which runs no tests.
#[cfg(not(test))]
#[allow(unsafe_code, reason = "QEMU calls it, and it calls QEMU")]
mod plugin;
