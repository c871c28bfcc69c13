// SPDX-License-Identifier: GPL-2.0

//! Shared by the tests: an image in memory, a model of a file tree, a writer of images, and the
//! comparison of an image with a model.

#![allow(dead_code)]

pub mod compare;
pub mod consistent;
pub mod memory;
pub mod model;
pub mod walk;
pub mod writer;

pub use memory::Memory;

use composefs_image::{Error, Image, InodeLayout, Source};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// Runs `cases` cases of a property, the same in each run. If `PROPTEST_CASES` is set, runs that
/// many cases, different in each run.
pub fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return config;
    }
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        ..config
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
) -> Result<Option<usize>, Error<<Memory as Source>::Error>> {
    let Some(value) = image.find_xattr(layout, index, name)? else {
        return Ok(None);
    };
    if let Some(out) = out.get_mut(..value.len) {
        image.read_xattr(value, out)?;
    }
    Ok(Some(value.len))
}
