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
use kernel::prelude::*;

/// The bytes of an image.
pub(crate) struct Cache(pub(crate) PrivateMapping<PrivateFile>);

impl Cache {
    /// The image's file.
    pub(crate) fn file(&self) -> &PrivateFile {
        self.0.reader()
    }

    /// See [`PrivateMapping::set_sequential`].
    #[inline]
    pub(crate) fn set_sequential(&self, sequential: bool) {
        self.0.set_sequential(sequential);
    }
}

impl Source for Cache {
    type Error = Error;
    type Run<'a> = Bytes<'a>;

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn run(&self, pos: u64) -> Result<Bytes<'_>> {
        // All loops of the parser come here, and an image makes them as long as it likes.
        task::may_go_on()?;
        self.0.bytes(pos)
    }

    fn xxh32(data: &[u8], seed: u32) -> u32 {
        hash::xxh32(data, seed)
    }
}
