// SPDX-License-Identifier: GPL-2.0

//! Memory that is being filled.

use core::mem::MaybeUninit;

/// Memory that has nothing in it yet, to be filled from the front: 256 KiB that are about to be
/// overwritten need not be zeroed before.
///
/// Only this layer makes one, so that nobody can put another one in its place.
///
/// # Invariants
///
/// The first `len` bytes are initialised; there are as many.
pub struct Buffer<'a> {
    memory: &'a mut [MaybeUninit<u8>],
    len: usize,
}

impl<'a> Buffer<'a> {
    pub(super) fn new(memory: &'a mut [MaybeUninit<u8>]) -> Self {
        // INVARIANT: No byte is said to be initialised.
        Self { memory, len: 0 }
    }

    /// How many bytes have been filled.
    pub fn filled(&self) -> usize {
        self.len
    }

    /// How many bytes are left to be filled.
    pub fn room(&self) -> usize {
        self.memory.len().saturating_sub(self.len)
    }

    /// What is left to be filled, for somebody who then calls [`Self::advance`].
    pub(super) fn rest(&mut self) -> &mut [MaybeUninit<u8>] {
        self.memory.get_mut(self.len..).unwrap_or_default()
    }

    /// Counts in what has been filled behind our back.
    ///
    /// # Safety
    ///
    /// The first `n` bytes of [`Self::rest`] have been initialised.
    pub(super) unsafe fn advance(&mut self, n: usize) {
        // INVARIANT: The caller promises it.
        self.len = self.len.saturating_add(n).min(self.memory.len());
    }

    /// Fills the next `n` bytes, or as many as there are, with zeros.
    pub fn push_zeros(&mut self, n: usize) {
        let n = n.min(self.room());
        for byte in self.rest().iter_mut().take(n) {
            byte.write(0);
        }
        // SAFETY: They have been written, as there is room for them.
        unsafe { self.advance(n) };
    }
}
