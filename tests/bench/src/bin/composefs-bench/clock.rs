// SPDX-License-Identifier: GPL-2.0

//! Counting instructions.
//!
//! QEMU's `-icount shift=0` lets the guest's clock advance by one nanosecond
//! for each instruction, so that the time between two points is the number of
//! instructions between them. Without `-icount` it is wall time.

use rustix::time::ClockId;
use rustix::time::clock_gettime;

/// Instructions since an arbitrary point in the past.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
