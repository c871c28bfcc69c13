// SPDX-License-Identifier: GPL-2.0

//! Reading and writing little-endian fields at any position, also beyond the end.

/// Returns the `width` bytes at `at` as a number.
pub(crate) fn get(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(width)?)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

/// Writes the low `width` bytes of `value` at `at`. Returns whether a byte has changed.
pub(crate) fn put(bytes: &mut [u8], at: usize, width: usize, value: u64) -> bool {
    write(bytes, at, &value.to_le_bytes()[..width])
}

/// Writes `data` at `at`, as far as there is room. Returns whether a byte has changed.
pub(crate) fn write(bytes: &mut [u8], at: usize, data: &[u8]) -> bool {
    let mut changed = false;
    for (to, from) in bytes.iter_mut().skip(at).zip(data) {
        changed |= to != from;
        *to = *from;
    }
    changed
}
