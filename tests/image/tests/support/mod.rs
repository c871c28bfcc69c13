// SPDX-License-Identifier: GPL-2.0

//! What the tests share: an image in memory, a model of a file tree, a writer of images from it,
//! and the comparison of an image with a model.

#![allow(dead_code)]

pub mod compare;
pub mod consistent;
pub mod memory;
pub mod model;
pub mod walk;
pub mod writer;

pub use memory::Memory;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// Runs `cases` cases of a property, always the same ones; or, if `PROPTEST_CASES` is set, as
/// many as it says, each time others.
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
