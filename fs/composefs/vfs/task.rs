// SPDX-License-Identifier: GPL-2.0

//! The current task.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings;
use kernel::prelude::*;

/// Reschedules if necessary. Long loops call this.
///
/// # Errors
///
/// `EINTR` if a fatal signal is pending. The caller must return soon.
#[inline]
pub fn check_signal() -> Result {
    // SAFETY: It may sleep. In a context that must not sleep, `cond_resched()` only warns.
    if unsafe { bindings::cond_resched_unless_killed() } {
        Ok(())
    } else {
        Err(EINTR)
    }
}
