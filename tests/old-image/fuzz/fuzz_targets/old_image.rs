// SPDX-License-Identifier: GPL-2.0

//! Makes a dump of any bytes, and checks it as the tests do. A mutator that knows the fields, or
//! libFuzzer, changes the images.

#![no_main]

use composefs_old_image_tests::check::checked;
use composefs_old_image_tests::mutate::Random;
use composefs_old_image_tests::mutate::mutate;
use libfuzzer_sys::fuzz_mutator;
use libfuzzer_sys::fuzz_target;
use libfuzzer_sys::fuzzer_mutate;
use rand::Rng;
use rand::SeedableRng;

/// Longest dump, in bytes.
const LIMIT: u64 = 1 << 18;

fuzz_target!(|data: &[u8]| {
    let _ = checked(data, LIMIT);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::seed_from_u64(seed.into());
    if random.random_ratio(1, 4) {
        return fuzzer_mutate(data, size, max_size);
    }
    for _ in 0..random.random_range(1..4) {
        mutate(&mut data[..size], &mut random);
    }
    size
});
