// SPDX-License-Identifier: GPL-2.0

//! Names of directory entries.
//!
//! The functions work on eight or sixteen bytes at a time. readdir calls them for every entry and
//! lookup for every step of a search, and names are short: a loop over bytes or a call of
//! `memcmp()` takes longer than all else that is done with a name.

use core::cmp::Ordering;

/// Length of a word in bytes.
const WORD: usize = 8;

/// Length of two words in bytes.
const WIDE: usize = 16;

/// A word of bytes that all are `byte`.
const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; WORD])
}

/// Finds the lowest byte of `word` that is zero. The lowest bit that is set in the result is in
/// that byte. The result is 0 if no byte is zero.
const fn zeros(word: u64) -> u64 {
    // Only a zero byte borrows from its own high bit. It may make the byte above it borrow too.
    word.wrapping_sub(repeat(0x01)) & !word & repeat(0x80)
}

/// Finds out whether `word` may have a NUL or a slash. If it has one, a high bit is set in some
/// byte of the result. If all bytes are ASCII, and none is a NUL or a slash, no high bit is set.
const fn suspect(word: [u8; WIDE]) -> u128 {
    const ONES: u128 = u128::from_ne_bytes([0x01; WIDE]);
    const SLASHES: u128 = u128::from_ne_bytes([b'/'; WIDE]);
    let word = u128::from_ne_bytes(word);
    // A zero byte borrows from its own high bit. The exclusive or makes a slash zero.
    word.wrapping_sub(ONES) | (word ^ SLASHES).wrapping_sub(ONES)
}

/// Whether `bytes` have neither a NUL nor a slash.
#[inline(never)]
pub(super) fn is_clean(bytes: &[u8]) -> bool {
    const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; WIDE]);
    let mut rest = bytes;
    let mut found = 0;
    // Nearly all names are clean, so the loop does not stop early.
    while let Some((word, behind)) = rest.split_first_chunk() {
        found |= suspect(*word);
        rest = behind;
    }
    // The last chunk may overlap the one before it.
    if let Some(last) = bytes.last_chunk() {
        if (found | suspect(*last)) & HIGH_BITS == 0 {
            return true;
        }
    }
    // The name is shorter than a chunk, or not all bytes are ASCII.
    !bytes.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// Cuts `bytes` at the first NUL.
#[inline(never)]
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    let mut len: usize = 0;
    while let Some((word, behind)) = rest.split_first_chunk::<WORD>() {
        let found = zeros(u64::from_le_bytes(*word));
        if found != 0 {
            let index = found.trailing_zeros() / u8::BITS;
            len = len.saturating_add(usize::try_from(index).unwrap_or(WORD));
            return bytes.get(..len).unwrap_or(bytes);
        }
        len = len.saturating_add(WORD);
        rest = behind;
    }
    match rest.iter().position(|byte| *byte == 0) {
        Some(index) => bytes.get(..len.saturating_add(index)).unwrap_or(bytes),
        None => bytes,
    }
}

/// Compares two names as `Ord` of slices does: by bytes, then by length.
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
        is_clean,
        until_nul, //
    };

    /// Names of up to 12 bytes that differ in one byte, at each position.
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
        // The bytes around it must neither hide it nor be taken for it.
        for around in [1, b'.', b'0', 0x7f, 0x80, 0x81, 0xaf, 0xff] {
            for len in 0..=70 {
                let mut name = [around; 70];
                assert!(is_clean(&name[..len]), "{len} of {around}");
                for at in 0..len {
                    for byte in [0, b'/'] {
                        name[at] = byte;
                        assert!(!is_clean(&name[..len]), "{byte} at {at} of {len}");
                    }
                    name[at] = around;
                }
            }
        }
    }

    #[test]
    fn a_name_ends_at_its_first_nul() {
        for (name, len) in names() {
            let name = &name[..len];
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(len);
            assert_eq!(until_nul(name), &name[..end], "{name:?}");
        }
    }
}
