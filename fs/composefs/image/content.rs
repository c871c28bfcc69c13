// SPDX-License-Identifier: GPL-2.0

//! Where the content of a regular file is.

use super::{
    inode::Layout,
    overlay,
    window::{
        copy_front,
        Window, //
    },
    Corrupt,
    Error,
    Image,
    Node,
    Source, //
};

/// Largest content in bytes that is accepted in the image. The tools put up to 5000 bytes there.
const INLINE_MAX: u64 = 8192;

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
    /// Returns the algorithm of this number, if it is one that composefs uses.
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

    /// Makes a digest of its bytes. `None` if they are not as many as the algorithm's.
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

    /// Returns the bytes: as many as the algorithm's digests have.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..self.algorithm.digest_len())
            .unwrap_or(&self.bytes)
    }
}

/// Where the content of a regular file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the image: see [`Image::read`]. At most 8 KiB.
    Inline,
    /// Nowhere: all of it is zero bytes.
    Sparse,
    /// In an object, whose path is [`Image::redirect`] and whose digest is this one.
    External(Option<Digest>),
}

impl<S: Source> Image<S> {
    /// Returns where the content of the regular file `node` is.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the xattrs that say so are not as they must be, or the content
    /// that should be in the image is not, or is too large.
    pub fn content(&self, node: &Node) -> Result<Content, Error<S::Error>> {
        let Some(value) = self.find_xattr(node, overlay::INDEX_TRUSTED, overlay::METACOPY)? else {
            self.check_inline(node)?;
            return Ok(Content::Inline);
        };
        let mut buffer = [0; overlay::METACOPY_MAX];
        let Some(bytes) = buffer.get_mut(..value.len) else {
            return Err(Corrupt::new("metacopy xattr is too long", value.pos).into());
        };
        self.read_xattr(value, bytes)?;
        let digest = overlay::metacopy(bytes).map_err(|what| Corrupt::new(what, value.pos))?;
        let redirect = self.find_xattr(node, overlay::INDEX_TRUSTED, overlay::REDIRECT)?;
        match (redirect, digest) {
            (Some(_), digest) => Ok(Content::External(digest)),
            (None, None) => Ok(Content::Sparse),
            // Zero bytes would pass for content that has been verified.
            (None, Some(_)) => {
                let what = "metacopy xattr has a digest, but there is no redirect xattr";
                Err(Corrupt::new(what, value.pos).into())
            }
        }
    }

    /// Checks a regular file whose content has to be in the image.
    fn check_inline(&self, node: &Node) -> Result<(), Corrupt> {
        if node.layout()? == Layout::Chunk {
            let what = "regular file in chunks has no metacopy xattr";
            return Err(Corrupt::new(what, node.pos()?));
        }
        if node.size() > INLINE_MAX {
            return Err(Corrupt::new("inline file is too large", node.pos()?));
        }
        self.check_data(node)
    }

    /// Fills the front of `out` with the path of the object that has the content of the regular
    /// file `node`, and returns its length. The path is relative to an object directory: it does
    /// not start with a slash, and has no component that is empty, `.` or `..`. `None` if the
    /// file names no object.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the path is anything else, or longer than `out`.
    pub fn redirect(&self, node: &Node, out: &mut [u8]) -> Result<Option<usize>, Error<S::Error>> {
        let name = overlay::REDIRECT;
        let Some(value) = self.find_xattr(node, overlay::INDEX_TRUSTED, name)? else {
            return Ok(None);
        };
        let corrupt = |what| Corrupt::new(what, value.pos);
        let mut window = Window::new(self);
        // A value of no bytes has no slash either.
        let Some(len) = value.len.checked_sub(1) else {
            return Err(corrupt("redirect xattr is empty").into());
        };
        if !window.holds(value.pos, b"/")? {
            return Err(corrupt("redirect xattr does not start with a slash").into());
        }
        let Some(path) = out.get_mut(..len) else {
            return Err(corrupt("redirect xattr is too long").into());
        };
        window.copy(value.pos.saturating_add(1), path)?;
        overlay::check_path(path).map_err(corrupt)?;
        Ok(Some(len))
    }
}
