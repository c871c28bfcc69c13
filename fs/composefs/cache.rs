// SPDX-License-Identifier: GPL-2.0

//! The image's bytes, through a page cache of the super block's own.
//!
//! The image file may be written to while it is mounted. This page cache is filled by this file
//! system alone, and a folio is not filled twice. So the bytes that the parser checks do not change
//! until it has used them.

use crate::image::{
    Source,
    BLOCK_SIZE, //
};
use crate::vfs::{
    folio::Bytes,
    hash,
    kernel_file::KernelFile,
    mapping::PrivateMapping,
    task, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Bits of [`Cache::walk`] with the number of the walk. The number is never 0.
const NUMBER: u32 = 0xff;

/// Bit of [`Cache::walk`]: the walk has listed a directory.
const LISTING: u32 = NUMBER + 1;

/// The bytes of an image.
pub(crate) struct Cache {
    mapping: PrivateMapping<KernelFile, BLOCK_SIZE>,
    /// Number of the current walk, and whether it has listed a directory.
    ///
    /// A program that lists a directory then looks up most of its names. While it does, all of the
    /// image near a position is needed, and large reads pay off. The walk ends with a lookup in a
    /// directory that it has not listed.
    walk: Atomic<u32>,
}

impl Cache {
    /// Makes a cache over an image.
    ///
    /// # Errors
    ///
    /// Those of [`PrivateMapping::new`].
    pub(crate) fn new(file: KernelFile) -> Result<Self> {
        let size = file.size();
        Ok(Self {
            mapping: PrivateMapping::new(file, size)?,
            walk: Atomic::new(1),
        })
    }

    /// Returns the image's file.
    pub(crate) fn file(&self) -> &KernelFile {
        self.mapping.reader()
    }

    /// Notes that a directory is listed. Returns the number of the walk.
    pub(crate) fn begin_listing(&self) -> u32 {
        let walk = self.walk.load(Relaxed);
        if walk & LISTING == 0 {
            self.walk.store(walk | LISTING, Relaxed);
            self.mapping.set_sequential(true);
        }
        walk & NUMBER
    }

    /// Notes a lookup in a directory that was listed in the walk `listed`, 0 for none.
    #[inline]
    pub(crate) fn note_lookup(&self, listed: u32) {
        let walk = self.walk.load(Relaxed);
        if walk & NUMBER != listed && walk & LISTING != 0 {
            self.end_walk(walk);
        }
    }

    #[cold]
    fn end_walk(&self, walk: u32) {
        let number = walk & NUMBER;
        let next = if number == NUMBER {
            1
        } else {
            number.wrapping_add(1)
        };
        self.walk.store(next, Relaxed);
        self.mapping.set_sequential(false);
    }
}

impl Source for Cache {
    type Error = Error;
    type Run<'a> = Bytes<'a>;

    fn size(&self) -> u64 {
        self.mapping.size()
    }

    fn run(&self, pos: u64) -> Result<Bytes<'_>> {
        // Every loop of the parser calls this, and a hostile image can make a loop long.
        task::check_signal()?;
        self.mapping.bytes(pos)
    }

    fn xxh32(data: &[u8], seed: u32) -> u32 {
        hash::xxh32(data, seed)
    }
}
