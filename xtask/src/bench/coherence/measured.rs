// SPDX-License-Identifier: GPL-2.0

//! What the plugin counted, and what the guest did then.

use composefs_bench::Stack;
use composefs_bench::coherence::Row;
use composefs_bench::coherence::Window;

/// What was measured in a window.
pub struct Measured {
    /// The row.
    pub row: &'static Row,
    /// The stack, if the row has some.
    pub stack: Option<Stack>,
    /// How many processors there were.
    pub processors: u32,
    /// An address of which the plugin counts the line, if the row is about that.
    pub address: u64,
    /// What was counted.
    pub window: Window,
}

impl Measured {
    /// Misses of an operation.
    pub fn each(&self, misses: u64) -> f64 {
        misses as f64 / self.window.operations.max(1) as f64
    }
}
