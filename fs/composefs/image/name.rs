// SPDX-License-Identifier: GPL-2.0

//! Names of directory entries, eight bytes at a time.
//!
//! Every entry that readdir gives and every step of a lookup comes here, and names are short: a
//! loop over bytes, or a call of `memcmp()`, takes longer than all else that is done with them.

use core::cmp::Ordering;

/// Length of a word in bytes.
const WORD: usize = 8;

/// A word of bytes that all are `byte`.
const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; WORD])
}

/// Says whether `word` has a byte that is zero.
const fn has_zero(word: u64) -> bool {
    // Only a byte that is zero borrows from its own high bit, or lets the one above it do so.
    word.wrapping_sub(repeat(0x01)) & !word & repeat(0x80) != 0
}

const fn word_is_clean(word: u64) -> bool {
    !has_zero(word) && !has_zero(word ^ repeat(b'/'))
}

/// Says whether `name` has neither a NUL nor a slash.
pub(super) fn is_clean(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((word, behind)) = rest.split_first_chunk::<WORD>() {
        if !word_is_clean(u64::from_ne_bytes(*word)) {
            return false;
        }
        rest = behind;
    }
    match name.last_chunk::<WORD>() {
        // Some bytes are looked at twice.
        Some(last) => word_is_clean(u64::from_ne_bytes(*last)),
        None => !rest.iter().any(|byte| matches!(byte, 0 | b'/')),
    }
}

/// Compares two names as `Ord` of slices does: by their bytes, then by their length.
pub(super) fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while let (Some((a_word, a_rest)), Some((b_word, b_rest))) =
        (a.split_first_chunk::<WORD>(), b.split_first_chunk::<WORD>())
    {
        let order = u64::from_be_bytes(*a_word).cmp(&u64::from_be_bytes(*b_word));
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    for (a, b) in a.iter().zip(b) {
        let order = a.cmp(b);
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::{
        compare,
        is_clean, //
    };

    /// Names of up to 12 bytes that differ in one byte, wherever it is.
    fn names() -> impl Iterator<Item = ([u8; 12], usize)> {
        (0..=12).flat_map(|len| {
            (0..12).flat_map(move |at| {
                [0, 1, b'.', b'/', b'0', 0x7f, 0x80, 0xff].map(move |byte| {
                    let mut name = [b'm'; 12];
                    name[at] = byte;
                    (name, len)
                })
            })
        })
    }

    #[test]
    fn order_is_that_of_slices() {
        for (a, a_len) in names() {
            for (b, b_len) in names() {
                let (a, b) = (&a[..a_len], &b[..b_len]);
                assert_eq!(compare(a, b), a.cmp(b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_nul_or_a_slash_is_found_wherever_it_is() {
        for (name, len) in names() {
            let name = &name[..len];
            let clean = !name.contains(&0) && !name.contains(&b'/');
            assert_eq!(is_clean(name), clean, "{name:?}");
        }
    }
}
