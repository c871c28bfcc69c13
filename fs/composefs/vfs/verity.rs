// SPDX-License-Identifier: GPL-2.0

//! fs-verity digests.
//!
//! C header: [`include/linux/fsverity.h`](srctree/include/linux/fsverity.h)

use super::bindings;
use kernel::prelude::*;

/// Largest digest of any algorithm, in bytes: `FS_VERITY_MAX_DIGEST_SIZE`.
pub const MAX_DIGEST_SIZE: usize = 64;

/// The fs-verity digest of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// `FS_VERITY_HASH_ALG_*`: 1 is SHA-256, 2 is SHA-512.
    pub algorithm: u8,
    bytes: [u8; MAX_DIGEST_SIZE],
    len: usize,
}

impl Digest {
    /// Returns the digest. Its length is that of the algorithm's digests.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// Returns the fs-verity digest of a file, or `None` if the file has none.
///
/// # Errors
///
/// `EIO` if `fsverity_get_digest()` returns more than the largest digest, else its error.
///
/// # Safety
///
/// `inode` must be the inode of an open file: open(2) loads the fs-verity information.
pub(super) unsafe fn digest(inode: *mut bindings::inode) -> Result<Option<Digest>> {
    let mut bytes = [0; MAX_DIGEST_SIZE];
    let mut algorithm = 0;
    // SAFETY: The inode is valid, and `bytes` has room for the largest digest.
    let len =
        unsafe { bindings::inode_verity_digest(inode, bytes.as_mut_ptr(), &raw mut algorithm) };
    match usize::try_from(len) {
        Ok(0) => Ok(None),
        Ok(len) if len <= MAX_DIGEST_SIZE => Ok(Some(Digest {
            algorithm,
            bytes,
            len,
        })),
        Ok(_) => Err(EIO),
        Err(_) => Err(Error::from_errno(len)),
    }
}
