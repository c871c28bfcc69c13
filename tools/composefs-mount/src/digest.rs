// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The fs-verity digest of an image.

use std::fmt;
use std::os::fd::AsFd;
use std::str::FromStr;

use composefs_ioctls::fsverity::MeasureVerityError;
use composefs_ioctls::fsverity::fs_ioc_measure_verity;
use rustix::io::Errno;

use crate::error::InvalidDigest;

/// `FS_VERITY_HASH_ALG_SHA256` and `FS_VERITY_HASH_ALG_SHA512` of `linux/fsverity.h`.
const SHA256: u8 = 1;
const SHA512: u8 = 2;

/// A fs-verity digest.
///
/// It is written as 64 hexadecimal digits for SHA-256 and 128 for SHA-512, with or without the
/// name of the algorithm and a colon before them.
///
/// ```
/// use composefs_mount::Digest;
///
/// let digest: Digest = format!("sha256:{}", "AB".repeat(32)).parse()?;
/// assert_eq!(digest.to_string(), format!("sha256:{}", "ab".repeat(32)));
/// assert!("sha512:abcd".parse::<Digest>().is_err());
/// # Ok::<(), composefs_mount::InvalidDigest>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256, 32 bytes.
    Sha256([u8; 32]),
    /// SHA-512, 64 bytes.
    Sha512([u8; 64]),
}

impl Digest {
    /// The bytes of the digest.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The digest of an open file, `None` if it has none or its file system has no fs-verity.
    ///
    /// # Errors
    ///
    /// Those of `FS_IOC_MEASURE_VERITY`.
    pub fn of_file(file: impl AsFd) -> rustix::io::Result<Option<Self>> {
        match fs_ioc_measure_verity::<32>(&file, SHA256) {
            Ok(bytes) => return Ok(Some(Self::Sha256(bytes))),
            Err(
                MeasureVerityError::InvalidDigestAlgorithm { .. }
                | MeasureVerityError::InvalidDigestSize { .. },
            ) => {}
            Err(e) => return none_or(e),
        }
        match fs_ioc_measure_verity::<64>(&file, SHA512) {
            Ok(bytes) => Ok(Some(Self::Sha512(bytes))),
            Err(e) => none_or(e),
        }
    }
}

/// What an error of the ioctl says about the digest.
fn none_or(error: MeasureVerityError) -> rustix::io::Result<Option<Digest>> {
    match error {
        MeasureVerityError::VerityMissing | MeasureVerityError::FilesystemNotSupported => Ok(None),
        MeasureVerityError::Io(e) => Err(Errno::from_io_error(&e).unwrap_or(Errno::IO)),
        // An algorithm that composefs does not know.
        _ => Err(Errno::OPNOTSUPP),
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.to_owned());
        let (algorithm, digits) = match text.split_once(':') {
            Some((algorithm, digits)) => (Some(algorithm), digits),
            None => (None, text),
        };
        let bytes = hex::decode(digits).map_err(|_| invalid())?;
        if let Ok(bytes) = <[u8; 32]>::try_from(bytes.as_slice())
            && matches!(algorithm, None | Some("sha256"))
        {
            return Ok(Self::Sha256(bytes));
        }
        if let Ok(bytes) = <[u8; 64]>::try_from(bytes.as_slice())
            && matches!(algorithm, None | Some("sha512"))
        {
            return Ok(Self::Sha512(bytes));
        }
        Err(invalid())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        };
        write!(f, "{algorithm}:{}", hex::encode(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_name_must_agree() {
        let (short, long) = ("0f".repeat(32), "0f".repeat(64));
        for (text, right) in [
            (short.clone(), true),
            (long.clone(), true),
            (format!("sha256:{short}"), true),
            (format!("sha512:{long}"), true),
            (format!("sha256:{long}"), false),
            (format!("sha512:{short}"), false),
            (format!("md5:{short}"), false),
            (short.replace('f', "g"), false),
            (short[1..].to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(text.parse::<Digest>().is_ok(), right, "{text}");
        }
    }

    #[test]
    fn a_file_without_fs_verity_has_no_digest() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Digest::of_file(file), Ok(None));
    }
}
