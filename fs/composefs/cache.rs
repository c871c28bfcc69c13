// SPDX-License-Identifier: GPL-2.0

//! The image's bytes, through a page cache of the super block's own.
//!
//! The page cache of the image file would do for an image that nobody can write to. This one does
//! for every image: what the parser looks at cannot change under it.

use crate::{
    image::Source,
    vfs::{
        folio::Bytes,
        hash,
        mapping::PrivateMapping,
        private_file::PrivateFile,
        task, //
    }, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Bits of [`Cache::walk`] with the number of the walk, which is not 0.
const NUMBER: u32 = 0xff;

/// Bit of [`Cache::walk`]: directories are being listed.
const LISTING: u32 = NUMBER + 1;

/// The bytes of an image.
pub(crate) struct Cache {
    mapping: PrivateMapping<PrivateFile>,
    /// Number of the walk that goes on, and whether it lists directories. Who lists a directory
    /// looks most of its names up next, so that a walk needs all of what is around a place. It ends
    /// when a name is looked up in a directory that was not listed in it.
    walk: Atomic<u32>,
}

impl Cache {
    /// Makes a cache over an image.
    ///
    /// # Errors
    ///
    /// Those of [`PrivateMapping::new`].
    pub(crate) fn new(file: PrivateFile) -> Result<Self> {
        let size = file.size();
        Ok(Self {
            mapping: PrivateMapping::new(file, size)?,
            walk: Atomic::new(1),
        })
    }

    /// The image's file.
    pub(crate) fn file(&self) -> &PrivateFile {
        self.mapping.reader()
    }

    /// Its page cache.
    pub(crate) fn mapping(&self) -> &PrivateMapping<PrivateFile> {
        &self.mapping
    }

    /// Notes that a directory is listed. Returns the number of the walk.
    pub(crate) fn list(&self) -> u32 {
        let walk = self.walk.load(Relaxed);
        if walk & LISTING == 0 {
            self.walk.store(walk | LISTING, Relaxed);
            self.mapping.set_sequential(true);
        }
        walk & NUMBER
    }

    /// Notes that a name is looked up in a directory that was listed in the walk `listed`, 0 for
    /// none.
    #[inline]
    pub(crate) fn look_up(&self, listed: u32) {
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
        // All loops of the parser come here, and an image makes them as long as it likes.
        task::may_go_on()?;
        self.mapping.bytes(pos)
    }

    fn xxh32(data: &[u8], seed: u32) -> u32 {
        hash::xxh32(data, seed)
    }
}
