// SPDX-License-Identifier: GPL-2.0

//! fs-verity digests: parsing, comparing and showing them.
//!
//! All digests are of one type, [`Digest`], whether an image, a mount option or fs-verity itself
//! names them, and are compared by `==`: algorithm and all bytes.

use crate::image::Algorithm;
pub(crate) use crate::image::Digest;
use crate::vfs::verity;
use kernel::fmt;

/// Converts a digest that fs-verity has measured. `None` if images cannot name its algorithm.
pub(crate) fn from_verity(measured: &verity::Digest) -> Option<Digest> {
    Digest::new(Algorithm::of_raw(measured.algorithm)?, measured.bytes())
}

/// Parses a digest: hexadecimal digits, optionally after `sha256:` or `sha512:`. Without a prefix
/// the number of digits tells the algorithm.
pub(crate) fn parse(text: &[u8]) -> Option<Digest> {
    let (named, digits) = if let Some(digits) = text.strip_prefix(b"sha256:") {
        (Some(Algorithm::Sha256), digits)
    } else if let Some(digits) = text.strip_prefix(b"sha512:") {
        (Some(Algorithm::Sha512), digits)
    } else {
        (None, text)
    };
    let algorithm = [Algorithm::Sha256, Algorithm::Sha512]
        .into_iter()
        .find(|algorithm| algorithm.digest_len().checked_mul(2) == Some(digits.len()))?;
    if named.is_some_and(|named| named != algorithm) {
        return None;
    }
    let mut bytes = [0; Digest::MAX];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Digest::new(algorithm, bytes.get(..algorithm.digest_len())?)
}

/// Returns the value of one hexadecimal digit.
fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Shows a digest as [`parse`] reads it: the algorithm, a colon and hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.algorithm() {
            Algorithm::Sha256 => "sha256:",
            Algorithm::Sha512 => "sha512:",
        })?;
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
