// SPDX-License-Identifier: GPL-2.0

//! Speaking to the plugin.

use std::arch::asm;

use composefs_bench::coherence::Mark;

/// Says something to the plugin, if there is one. The processor does nothing.
pub fn say(mark: Mark) {
    macro_rules! nop {
        ($mark:expr) => {
            // SAFETY: the instruction does nothing, and reads nothing.
            unsafe {
                asm!(
                    "nop dword ptr [rax + {displacement}]",
                    displacement = const Mark::BASE + $mark as u32,
                    options(nostack, preserves_flags),
                );
            }
        };
    }
    match mark {
        Mark::WindowBegins => nop!(Mark::WindowBegins),
        Mark::WindowEnds => nop!(Mark::WindowEnds),
        Mark::OperationBegins => nop!(Mark::OperationBegins),
        Mark::OperationEnds => nop!(Mark::OperationEnds),
    }
}
