// SPDX-License-Identifier: GPL-2.0

//! Reads of the image at any position.
//!
//! Metadata that does not cross the end of a run is read in place. Other metadata is compared or
//! copied piece by piece.

use super::{
    block_offset,
    block_start,
    to_u64,
    to_usize,
    Corrupt,
    Error,
    Image,
    Source, //
};

impl<S: Source> Image<S> {
    /// Returns the bytes from `pos` to the end of its run: at least one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if `pos` is beyond the end of the image.
    pub(super) fn run(&self, pos: u64) -> Result<S::Run<'_>, Error<S::Error>> {
        if pos >= self.source.size() {
            return Err(Corrupt::new("reference beyond the end of the image", pos).into());
        }
        let run = self.source.run(pos).map_err(Error::Source)?;
        if run.is_empty() {
            return Err(Corrupt::new("image ends before its size", pos).into());
        }
        Ok(run)
    }

    /// Checks that the `len` bytes at `pos` are in the image.
    pub(super) fn within(&self, pos: u64, len: u64, what: &'static str) -> Result<(), Corrupt> {
        match pos.checked_add(len) {
            Some(end) if end <= self.source.size() => Ok(()),
            _ => Err(Corrupt::new(what, pos)),
        }
    }
}

/// Reads the image, and keeps the block that was read last.
pub(super) struct BlockReader<'i, S: Source> {
    image: &'i Image<S>,
    /// The position of the block and its bytes. The whole block is kept, so that a read at a lower
    /// position in it needs no other run.
    run: Option<(u64, S::Run<'i>)>,
}

impl<'i, S: Source> BlockReader<'i, S> {
    /// Creates a reader that has read nothing.
    pub(super) fn new(image: &'i Image<S>) -> Self {
        Self { image, run: None }
    }

    /// Returns the bytes from `pos` to the end of its block or of the image; at least one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where `pos` is beyond the end of the image.
    pub(super) fn at(&mut self, pos: u64) -> Result<&[u8], Error<S::Error>> {
        let start = block_start(pos);
        if !matches!(&self.run, Some((at, _)) if *at == start) {
            // Drop the old run first: it holds a folio reference.
            self.run = None;
            self.run = Some((start, self.image.run(start)?));
        }
        let offset = to_usize(block_offset(pos));
        self.run
            .as_ref()
            .and_then(|(_, run)| run.get(offset..))
            .filter(|bytes| !bytes.is_empty())
            .ok_or(Corrupt::new("reference beyond the end of the image", pos).into())
    }

    /// Whether the bytes at `pos` are `want`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the image ends before them.
    pub(super) fn holds(&mut self, mut pos: u64, mut want: &[u8]) -> Result<bool, Error<S::Error>> {
        while !want.is_empty() {
            let have = self.at(pos)?;
            let len = have.len().min(want.len());
            let (Some(have), Some((head, rest))) = (have.get(..len), want.split_at_checked(len))
            else {
                return Ok(false);
            };
            if have != head {
                return Ok(false);
            }
            pos = pos.saturating_add(to_u64(len));
            want = rest;
        }
        Ok(true)
    }

    /// Fills `out` with the bytes at `pos`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the image ends before `out` is full.
    pub(super) fn copy(&mut self, mut pos: u64, mut out: &mut [u8]) -> Result<(), Error<S::Error>> {
        while !out.is_empty() {
            let have = self.at(pos)?;
            let len = copy_front(out, have);
            pos = pos.saturating_add(to_u64(len));
            out = out.get_mut(len..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Copies as many bytes as both slices have, and returns their number.
///
/// `copy_from_slice()` panics if the lengths differ. This function cannot panic, and the compiled
/// code is the same.
pub(super) fn copy_front(to: &mut [u8], from: &[u8]) -> usize {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    to.len().min(from.len())
}
