// SPDX-License-Identifier: GPL-2.0

//! The parser of the kernel module, on an image in memory.

use std::convert::Infallible;

use composefs_image::Corrupt;
use composefs_image::Error;
use composefs_image::Image;
use composefs_image::Source;

/// An image in memory.
pub struct Memory<'a>(&'a [u8]);

impl Source for Memory<'_> {
    type Error = Infallible;
    type Run<'b>
        = &'b [u8]
    where
        Self: 'b;

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn run(&self, pos: u64) -> Result<&[u8], Infallible> {
        let end = (pos / 4096 + 1) * 4096;
        Ok(&self.0[pos as usize..end.min(self.size()) as usize])
    }

    fn xxh32(data: &[u8], seed: u32) -> u32 {
        xxhash_rust::xxh32::xxh32(data, seed)
    }
}

/// Opens an image.
///
/// # Errors
///
/// The error of the parser, if the image is damaged.
pub fn open(bytes: &[u8]) -> Result<Image<Memory<'_>>, Corrupt> {
    sure(Image::open(Memory(bytes)))
}

/// Removes the error of the source: reading memory cannot fail.
///
/// # Errors
///
/// The error of the parser, if the image is damaged.
pub fn sure<T>(result: Result<T, Error<Infallible>>) -> Result<T, Corrupt> {
    result.map_err(|error| match error {
        Error::Corrupt(corrupt) => corrupt,
        Error::Source(never) => match never {},
    })
}
