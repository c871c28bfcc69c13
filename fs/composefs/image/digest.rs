// SPDX-License-Identifier: GPL-2.0

//! fs-verity digests, as images name them.

use super::reader::copy_front;

/// A digest algorithm of fs-verity.
///
/// C header: `include/uapi/linux/fsverity.h`: `FS_VERITY_HASH_ALG_SHA256` and others
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256: 32 bytes.
    Sha256,
    /// SHA-512: 64 bytes.
    Sha512,
}

impl Algorithm {
    /// Returns the algorithm with the number `raw`, if composefs supports it.
    ///
    /// C header: `include/uapi/linux/fsverity.h`: `FS_VERITY_HASH_ALG_SHA256` and others
    pub fn of_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Returns the algorithm's number.
    ///
    /// C header: `include/uapi/linux/fsverity.h`: `FS_VERITY_HASH_ALG_SHA256` and others
    pub fn as_raw(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// Returns the length of a digest, in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// An fs-verity digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    algorithm: Algorithm,
    /// Zero beyond the algorithm's length.
    bytes: [u8; Self::MAX],
}

impl Digest {
    /// Length of the longest digest, in bytes.
    pub const MAX: usize = 64;

    /// Creates a digest. `None` if the length of `bytes` is not that of the algorithm.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != algorithm.digest_len() {
            return None;
        }
        let mut digest = Self {
            algorithm,
            bytes: [0; Self::MAX],
        };
        copy_front(&mut digest.bytes, bytes);
        Some(digest)
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the bytes. Their number is the digest length of the algorithm.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..self.algorithm.digest_len())
            .unwrap_or(&self.bytes)
    }
}
