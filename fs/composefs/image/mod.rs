// SPDX-License-Identifier: GPL-2.0

//! The composefs image: the on-disk format and nothing else.
//!
//! An image is an EROFS file system of metadata only, after a composefs header. This module decodes
//! inodes, directory entries, extended attributes, and where the content of each file is. It uses
//! no kernel type, allocates nothing and cannot panic, so the same source files are tested, fuzzed
//! and measured on the host.
//!
//! The image is hostile: every byte may have any value, and a page that was evicted may read
//! differently the next time. So each offset, count and length is checked at each use, nothing is
//! remembered as valid, and each loop is bounded by something that was checked against the size of
//! the image.
//!
//! | file            | contents                                                          |
//! |-----------------|-------------------------------------------------------------------|
//! | `superblock.rs` | the composefs header and the EROFS superblock; what is accepted   |
//! | `inode.rs`      | [`DiskInode`], and [`InodeLayout`], where its data is             |
//! | `data.rs`       | data of directories, symlinks and small files                     |
//! | `dir.rs`        | lookup and iteration of directories                               |
//! | `name.rs`       | names of directory entries: valid bytes, order                    |
//! | `xattr.rs`      | extended attributes as stored                                     |
//! | `content.rs`    | which object a regular file's content is in                       |
//! | `overlay.rs`    | the xattrs of overlayfs                                           |
//! | `digest.rs`     | fs-verity digests                                                 |
//! | `reader.rs`     | reads at any position through [`Source::run`]                     |
//!
//! The traits of `zerocopy` are imported as `_`: with its feature `derive`, their names are also
//! those of macros, which clash with the ones of `zerocopy_derive`.
//!
//! C header: `fs/erofs/erofs_fs.h`

#![deny(
    unsafe_code,
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable,
    clippy::unwrap_used
)]
mod content;
mod data;
mod digest;
mod dir;
mod inode;
mod name;
pub mod overlay;
mod reader;
mod superblock;
mod xattr;

use core::ops::Deref;

pub use self::content::{
    Content,
    INLINE_MAX, //
};
pub use self::data::Extent;
pub use self::digest::{
    Algorithm,
    Digest, //
};
pub use self::dir::{
    Dirent,
    Found,
    LookupHint, //
};
pub use self::inode::{
    DiskInode,
    FileType,
    InodeLayout,
    PackedLayout,
    SYMLINK_MAX, //
};
pub use self::superblock::Superblock;
pub use self::xattr::{
    XattrFilter,
    XattrName,
    XattrValue, //
};

/// Binary logarithm of the block size. C name: `blkszbits`
pub const BLOCK_BITS: u8 = 12;

/// Size of a block in bytes. All composefs images have this one.
pub const BLOCK_SIZE: u64 = 1 << BLOCK_BITS;

/// Bytes from one inode number to the next.
///
/// C: `fs/erofs/internal.h`: `erofs_iloc()`
const NID_SIZE: u64 = 32;

/// Longest name of a directory entry or of an xattr, in bytes.
///
/// C header: `fs/erofs/erofs_fs.h`: `EROFS_NAME_LEN`
pub const NAME_LEN: usize = 255;

/// The image's bytes.
///
/// In the kernel these are folios of the image's page cache, on the host a slice.
pub trait Source {
    /// Error of a read. It is passed on unchanged.
    type Error;

    /// Bytes that stay valid and do not change until this is dropped.
    type Run<'a>: Deref<Target = [u8]>
    where
        Self: 'a;

    /// Returns the size of the image in bytes. It never changes.
    fn size(&self) -> u64;

    /// Returns the bytes from `pos` to the end of its 4 KiB block or of the image, whichever comes
    /// first: at least one byte. `pos` must be below [`Self::size`].
    ///
    /// # Errors
    ///
    /// The error of reading them.
    fn run(&self, pos: u64) -> Result<Self::Run<'_>, Self::Error>;

    /// Returns the xxHash32 of `data`.
    fn xxh32(data: &[u8], seed: u32) -> u32;
}

/// The image is damaged, or is not a composefs image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// What is wrong, with the name of the field, for the log.
    pub what: &'static str,
    /// Position in bytes of what is wrong, or of the structure with the wrong reference.
    /// `u64::MAX` if it is beyond what 64 bits can address.
    pub at: u64,
}

impl Corrupt {
    const fn new(what: &'static str, at: u64) -> Self {
        Self { what, at }
    }

    /// Says that `what` is wrong with the inode `nid`.
    pub const fn in_inode(what: &'static str, nid: u64) -> Self {
        // OVERFLOW: A nid beyond 2^59 gives `u64::MAX`, which stands for no position.
        Self::new(what, nid.saturating_mul(NID_SIZE))
    }
}

/// Error of a read of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The bytes could not be read.
    Source(E),
    /// The bytes were read, and are wrong.
    Corrupt(Corrupt),
}

impl<E> From<Corrupt> for Error<E> {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// An open image: its bytes, and its superblock, which was accepted.
pub struct Image<S> {
    source: S,
    superblock: Superblock,
}

impl<S: Source> Image<S> {
    /// Opens an image: checks its header and superblock, and that its root is a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the first field that is damaged or not supported.
    pub fn open(source: S) -> Result<Self, Error<S::Error>> {
        let superblock = Superblock::read(&source)?;
        let image = Self { source, superblock };
        let root = image.inode(superblock.root_nid)?;
        if root.file_type() != FileType::Directory {
            let at = root.layout.pos()?;
            return Err(Corrupt::new("root inode is not a directory", at).into());
        }
        Ok(image)
    }

    /// Returns the image's bytes.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Returns the superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }
}

/// Returns the position of a block, in bytes.
fn block_pos(block: u32) -> u64 {
    // OVERFLOW: Cannot happen: 2^32 blocks are 2^44 bytes.
    u64::from(block).saturating_mul(BLOCK_SIZE)
}

/// Returns the position of the block that `pos` lies in.
fn block_start(pos: u64) -> u64 {
    pos & !(BLOCK_SIZE - 1)
}

/// Returns how far into its block `pos` lies.
fn block_offset(pos: u64) -> u64 {
    pos & (BLOCK_SIZE - 1)
}

/// Widens a length. Cannot fail: `usize` has at most 64 bits on all architectures of the kernel.
fn to_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Narrows a length. One that does not fit becomes `usize::MAX`, which no slice has, so the check
/// against the length of a slice catches it.
fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
