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

pub use memory::{xattr, Memory};

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
