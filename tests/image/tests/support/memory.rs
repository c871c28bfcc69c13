// SPDX-License-Identifier: GPL-2.0

//! An image in memory. The fuzzer uses this file, too.

use std::borrow::Cow;
use std::cell::Cell;

use composefs_image::{Error, Image, InodeLayout, Source};

/// The error of a failed read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// An image in memory, which counts its reads and can be made to misbehave.
pub struct Memory {
    pub bytes: Vec<u8>,
    /// Number of calls of `run()`.
    pub runs: Cell<u64>,
    /// If set, the number of the call that fails.
    pub fail: Cell<Option<u64>>,
    /// If set, bytes change between calls.
    pub noise: Cell<Option<u64>>,
    /// If set, runs may be too short, or empty.
    pub short: Cell<Option<u64>>,
}

impl Memory {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            runs: Cell::new(0),
            fail: Cell::new(None),
            noise: Cell::new(None),
            short: Cell::new(None),
        }
    }

    /// Whether neither faults nor changing bytes nor short runs are set.
    pub fn is_steady(&self) -> bool {
        self.fail.get().is_none() && self.noise.get().is_none() && self.short.get().is_none()
    }
}

/// A generator of pseudo-random numbers (SplitMix64): the same seed gives the same test.
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Source for Memory {
    type Error = Fault;
    type Run<'a> = Cow<'a, [u8]>;

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn run(&self, pos: u64) -> Result<Cow<'_, [u8]>, Fault> {
        assert!(pos < self.size(), "run() beyond the image");
        let number = self.runs.get();
        self.runs.set(number + 1);
        if self.fail.get() == Some(number) {
            return Err(Fault);
        }
        let end = (pos / 4096 + 1) * 4096;
        let run = &self.bytes[pos as usize..end.min(self.size()) as usize];
        if let Some(mut state) = self.short.get() {
            let len = run.len() - random(&mut state) as usize % 3 * run.len() / 3;
            let len = len - random(&mut state) as usize % (len + 1) / 2 * 2;
            self.short.set(Some(state));
            return Ok(Cow::Borrowed(&run[..len]));
        }
        match self.noise.get() {
            None => Ok(Cow::Borrowed(run)),
            Some(mut state) => {
                let mut run = run.to_vec();
                for _ in 0..random(&mut state) % 4 {
                    let at = random(&mut state) as usize % run.len();
                    run[at] = random(&mut state) as u8;
                }
                self.noise.set(Some(state));
                Ok(Cow::Owned(run))
            }
        }
    }

    fn xxh32(data: &[u8], seed: u32) -> u32 {
        xxhash_rust::xxh32::xxh32(data, seed)
    }
}

/// Returns the length of an xattr's value, and fills the front of `out` with the value if it fits,
/// as getxattr(2) does.
pub fn xattr(
    image: &Image<Memory>,
    layout: &InodeLayout,
    index: u8,
    name: &[u8],
    out: &mut [u8],
) -> Result<Option<usize>, Error<Fault>> {
    let Some(value) = image.find_xattr(layout, index, name)? else {
        return Ok(None);
    };
    if let Some(out) = out.get_mut(..value.len) {
        image.read_xattr(value, out)?;
    }
    Ok(Some(value.len))
}
