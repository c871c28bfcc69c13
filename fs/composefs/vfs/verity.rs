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

/// Whether fs-verity checks the signature that a file was given together with its digest.
pub const CHECKS_SIGNATURES: bool = cfg!(CONFIG_FS_VERITY_BUILTIN_SIGNATURES);

/// Largest descriptor: `FS_VERITY_MAX_DESCRIPTOR_SIZE`.
#[cfg(CONFIG_FS_VERITY)]
const MAX_DESCRIPTOR_SIZE: usize = 16384;

/// Whether a file has a signature of its own. If [`CHECKS_SIGNATURES`], it was good when the
/// fs-verity information was loaded: open(2) fails otherwise.
///
/// # Errors
///
/// `EIO` if the file system returns something else than a descriptor, else its error. `ENOMEM`.
///
/// # Safety
///
/// `inode` must be the inode of an open file that has an fs-verity digest.
#[cfg(CONFIG_FS_VERITY)]
pub(super) unsafe fn is_signed(inode: *mut bindings::inode) -> Result<bool> {
    // SAFETY: The inode is valid. The file system of a file with a digest has the operations. The
    // kernel crate may have an opaque type of them; this one is the complete type.
    let get = unsafe {
        let operations = (*(*inode).i_sb).s_vop;
        (*operations.cast::<bindings::fsverity_operations>()).get_verity_descriptor
    };
    let get = get.ok_or(EIO)?;
    let mut descriptor = KVec::<u8>::zeroed(MAX_DESCRIPTOR_SIZE, GFP_KERNEL)?;
    // SAFETY: The inode is valid, and the buffer has the length that is passed.
    let len = unsafe { get(inode, descriptor.as_mut_ptr().cast(), descriptor.len()) };
    let len = usize::try_from(len).map_err(|_| Error::from_errno(len))?;
    let at = core::mem::offset_of!(bindings::fsverity_descriptor, sig_size);
    let header = size_of::<bindings::fsverity_descriptor>();
    let size = descriptor.get(at..).and_then(|rest| rest.first_chunk());
    let size = size.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(EIO)?;
    if len < header || len > descriptor.len() {
        return Err(EIO);
    }
    Ok(size != 0)
}

/// As above, for a kernel on which no file has one.
///
/// # Safety
///
/// There are no requirements.
#[cfg(not(CONFIG_FS_VERITY))]
pub(super) unsafe fn is_signed(_inode: *mut bindings::inode) -> Result<bool> {
    Ok(false)
}
