// SPDX-License-Identifier: GPL-2.0

//! Uninitialised memory that is being filled.

use core::mem::MaybeUninit;

/// Uninitialised memory, filled from the front. Memory that is about to be overwritten need not be
/// zeroed first.
///
/// Only this layer can create a buffer, so safe code cannot replace one by another.
///
/// # Invariants
///
/// The first `len` bytes of `memory` are initialised, and `len` is at most its length.
pub struct Buffer<'a> {
    memory: &'a mut [MaybeUninit<u8>],
    len: usize,
}

impl<'a> Buffer<'a> {
    pub(super) fn new(memory: &'a mut [MaybeUninit<u8>]) -> Self {
        // INVARIANT: The first 0 bytes are initialised.
        Self { memory, len: 0 }
    }

    /// Returns the number of bytes that are filled.
    pub fn filled(&self) -> usize {
        self.len
    }

    /// Returns the number of bytes that are not filled.
    pub fn room(&self) -> usize {
        self.memory.len().saturating_sub(self.len)
    }

    /// Returns the memory that is not filled. A caller that fills a part of it then calls
    /// [`Self::advance`].
    pub(super) fn rest(&mut self) -> &mut [MaybeUninit<u8>] {
        self.memory.get_mut(self.len..).unwrap_or_default()
    }

    /// Counts `n` more bytes as filled.
    ///
    /// # Safety
    ///
    /// The first `n` bytes of [`Self::rest`] must be initialised.
    pub(super) unsafe fn advance(&mut self, n: usize) {
        // INVARIANT: The `n` bytes behind the first `len` are initialised, too.
        // OVERFLOW: Cannot happen: there are at least `n` more bytes.
        self.len = self.len.saturating_add(n).min(self.memory.len());
    }

    /// Fills the next `n` bytes with zeros, or all that are left if these are fewer.
    pub fn push_zeros(&mut self, n: usize) {
        let n = n.min(self.room());
        for byte in self.rest().iter_mut().take(n) {
            byte.write(0);
        }
        // SAFETY: The loop has written `n` bytes, since `n` is at most the room.
        unsafe { self.advance(n) };
    }
}
