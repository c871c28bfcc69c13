// SPDX-License-Identifier: GPL-2.0

//! Damages any bytes as if they were an image, for a fuzzer.

use rand::Rng;
use rand::seq::IndexedRandom as _;
pub use rand_xoshiro::Xoshiro256PlusPlus as Random;

use crate::writer::HEADER;
use crate::writer::INODE;

/// Position and size of the fields of an inode.
const FIELDS: [(usize, usize); 16] = [
    (0, 4),
    (4, 4),
    (8, 4),
    (12, 4),
    (16, 4),
    (20, 8),
    (28, 8),
    (36, 4),
    (40, 8),
    (48, 4),
    (52, 8),
    (60, 4),
    (64, 8),
    (72, 4),
    (76, 8),
    (84, 4),
];

/// Values that a field of an image may be changed to. `old` is what it holds.
pub fn values(old: u64, image: usize) -> Vec<u64> {
    let image = image as u64;
    let mut values = vec![0, 1, 2, 3, 4, 12, 32, 96, 128, 255, 256, 4095, 4096];
    values.extend([0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000]);
    values.extend([0xffff_ffff, 1 << 32, u64::MAX >> 1, 1 << 63, u64::MAX]);
    values.extend([image - 1, image, image + 1, image.wrapping_neg()]);
    values.extend([old.wrapping_add(1), old.wrapping_sub(1), old << 1, !old]);
    // Modes of every type, and their types in directories.
    values.extend((0..16).map(|kind| kind << 12 | 0o755));
    values.extend(0..16);
    values
}

/// Changes a field, or copies one over another. Does nothing where there is no inode.
pub fn mutate(bytes: &mut [u8], random: &mut impl Rng) {
    let size = bytes.len();
    let inodes = size.saturating_sub(HEADER) / INODE;
    if inodes == 0 {
        return;
    }
    let place = |random: &mut _| {
        let (offset, length) = FIELDS[Rng::random_range(random, 0..FIELDS.len())];
        (
            HEADER + INODE * Rng::random_range(random, 0..inodes) + offset,
            length,
        )
    };
    let (at, length) = match random.random_ratio(1, 2) {
        true => place(random),
        // In what the references lead to.
        false => (
            random.random_range(0..size - 8) & !1,
            2 << random.random_range(0..2),
        ),
    };
    let mut old = [0; 8];
    old[..length].copy_from_slice(&bytes[at..at + length]);
    let value = match random.random_ratio(1, 3) {
        true => {
            let (from, _) = place(random);
            let mut value = [0; 8];
            value[..length].copy_from_slice(&bytes[from..from + length]);
            value
        }
        false => {
            let values = values(u64::from_le_bytes(old), size);
            values.choose(random).copied().unwrap_or(0).to_le_bytes()
        }
    };
    bytes[at..at + length].copy_from_slice(&value[..length]);
}
