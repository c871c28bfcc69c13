// SPDX-License-Identifier: GPL-2.0

//! Walks an image with the parser, and checks the number of reads and the consistency of the
//! results, as the tests do. composefs-image-mutate or libFuzzer changes the images.

#![no_main]

#[path = "../../tests/support/consistent.rs"]
mod consistent;
#[path = "../../tests/support/memory.rs"]
mod memory;
#[path = "../../tests/support/walk.rs"]
mod walk;

use composefs_image_mutate::{Base, Random};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use rand::{Rng, SeedableRng};

/// Largest number of inodes to walk in an image.
const INODES_MAX: usize = 64;

fuzz_target!(|data: &[u8]| {
    walk::walk(memory::Memory::new(data.to_vec()), INODES_MAX);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::seed_from_u64(seed.into());
    if random.random_ratio(1, 4) {
        return fuzzer_mutate(data, size, max_size);
    }
    let base = Base::new(data[..size].to_vec());
    let (bytes, _) = base.mutate(&[], &mut random);
    let room = max_size.min(data.len());
    if bytes.len() > room {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
});
