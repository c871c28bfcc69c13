// SPDX-License-Identifier: GPL-2.0

//! Reads of the image at any position.
//!
//! Metadata is read in place where it does not cross the end of a run, and is otherwise compared
//! or copied piece by piece.

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
    /// Returns the bytes from `pos` to the end of its run; at least one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where `pos` is beyond the end of the image.
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

/// A block of the image, kept while it is the one that is read.
pub(super) struct BlockReader<'i, S: Source> {
    image: &'i Image<S>,
    /// The run and its position, which is the start of a block: then steps back within the block
    /// find what they need too.
    run: Option<(u64, S::Run<'i>)>,
}

impl<'i, S: Source> BlockReader<'i, S> {
    /// Returns a reader that has read nothing yet.
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
            // Let go of the old one first: a folio reference held for nothing.
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

    /// Says whether the bytes at `pos` are `want`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the image ends before as many.
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

    /// Copies the bytes at `pos` to `out`, all of it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the image ends before as many.
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

/// Copies as much as both have, and returns how much that is.
///
/// `copy_from_slice()` would panic, had the lengths not been made equal; this cannot, and is
/// compiled to the same.
pub(super) fn copy_front(to: &mut [u8], from: &[u8]) -> usize {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    to.len().min(from.len())
}
