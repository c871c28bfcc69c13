// SPDX-License-Identifier: GPL-2.0

//! Names of directory entries, eight or sixteen bytes at a time.
//!
//! Every entry that readdir gives and every step of a lookup comes here, and names are short: a
//! loop over bytes, or a call of `memcmp()`, takes longer than all else that is done with them.

use core::cmp::Ordering;

/// Length of a word in bytes.
const WORD: usize = 8;

/// Length in bytes of two words, which are looked at together.
const WIDE: usize = 16;

/// A word of bytes that all are `byte`.
const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; WORD])
}

/// Returns a word whose lowest bit that is set is in the first byte of `word`, from the low end,
/// that is zero; 0 if there is none.
const fn zeros(word: u64) -> u64 {
    // Only a byte that is zero borrows from its own high bit, or lets the one above it do so.
    word.wrapping_sub(repeat(0x01)) & !word & repeat(0x80)
}

/// Returns a word in which no byte has its high bit set if those of `word` are ASCII, and neither a
/// NUL nor a slash. If one of them is a NUL or a slash, some byte has.
const fn suspect(word: [u8; WIDE]) -> u128 {
    const ONES: u128 = u128::from_ne_bytes([0x01; WIDE]);
    const SLASHES: u128 = u128::from_ne_bytes([b'/'; WIDE]);
    let word = u128::from_ne_bytes(word);
    // A byte that is zero borrows from its own high bit, and a slash is made zero.
    word.wrapping_sub(ONES) | (word ^ SLASHES).wrapping_sub(ONES)
}

/// Says whether `bytes` have neither a NUL nor a slash.
#[inline(never)]
pub(super) fn is_clean(bytes: &[u8]) -> bool {
    const HIGH_BITS: u128 = u128::from_ne_bytes([0x80; WIDE]);
    let mut rest = bytes;
    let mut found = 0;
    // Nearly always there is nothing, so there is no stop where something is.
    while let Some((word, behind)) = rest.split_first_chunk() {
        found |= suspect(*word);
        rest = behind;
    }
    // Some bytes are looked at twice.
    if let Some(last) = bytes.last_chunk() {
        if (found | suspect(*last)) & HIGH_BITS == 0 {
            return true;
        }
    }
    // They are few, or not all of them are ASCII.
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
        is_clean,
        until_nul, //
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
        // What is beside it must not hide it, nor be taken for it.
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
