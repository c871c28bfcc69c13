// SPDX-License-Identifier: GPL-2.0

//! The callers of the function that runs. QEMU does not tell them, but accesses do: a call writes
//! where to return to, and a return reads it.

use std::collections::HashMap;

/// Bytes in a stack, as a power of two. Each is in a place of its own that begins at a
/// multiple of this.
const STACK: u32 = 14;

/// The deepest chain that is reported.
const DEEPEST: usize = 24;

/// A call that has not returned: the address of the place to return to, and where the call is.
struct Call {
    address: u64,
    at: u64,
}

/// The calls that have not returned.
#[derive(Default)]
pub struct Calls {
    /// Those on each stack.
    stacks: HashMap<u64, Vec<Call>>,
    /// The stack that each processor is on.
    current: Vec<u64>,
}

impl Calls {
    /// The instruction at `at` calls, and writes where to return to.
    pub fn call(&mut self, processor: u32, address: u64, at: u64) {
        self.returned(processor, address).push(Call { address, at });
    }

    /// An instruction returns, and reads where to.
    pub fn ret(&mut self, processor: u32, address: u64) {
        self.returned(processor, address);
    }

    /// Forgets the calls that have returned when the stack ends at an address, and those that
    /// were left without a return.
    fn returned(&mut self, processor: u32, address: u64) -> &mut Vec<Call> {
        let processor = processor as usize;
        if self.current.len() <= processor {
            self.current.resize(processor + 1, 0);
        }
        self.current[processor] = address >> STACK;
        let stack = self.stacks.entry(address >> STACK).or_default();
        while stack.last().is_some_and(|call| call.address <= address) {
            stack.pop();
        }
        stack
    }

    /// The calls on a processor's stack, the innermost first.
    pub fn chain(&self, processor: u32) -> Vec<u64> {
        let stack = self
            .current
            .get(processor as usize)
            .and_then(|stack| self.stacks.get(stack));
        let calls = stack.into_iter().flatten().rev();
        calls.take(DEEPEST).map(|call| call.at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_ends_its_call() {
        let mut calls = Calls::default();
        calls.call(0, 0x8f00, 1);
        calls.call(0, 0x8e00, 2);
        assert_eq!(calls.chain(0), [2, 1]);
        calls.ret(0, 0x8e00);
        calls.call(0, 0x8e80, 3);
        assert_eq!(calls.chain(0), [3, 1]);
        // Another stack, and back: what ran there does not matter here.
        calls.call(0, 0xcf00, 4);
        assert_eq!(calls.chain(0), [4]);
        calls.ret(0, 0x8e80);
        assert_eq!(calls.chain(0), [1]);
        assert!(calls.chain(1).is_empty());
    }
}
