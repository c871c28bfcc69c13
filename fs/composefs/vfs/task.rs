// SPDX-License-Identifier: GPL-2.0

//! The current task.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings;
use kernel::prelude::*;

/// Lets others run if it is their turn.
///
/// # Errors
///
/// `EINTR` if the task is being killed, and is to give up what it does.
#[inline]
pub fn check_signal() -> Result {
    // SAFETY: There are no requirements but a context that may sleep, which has no other
    // consequence than a warning where it is missing.
    if unsafe { bindings::may_go_on() } {
        Ok(())
    } else {
        Err(EINTR)
    }
}
