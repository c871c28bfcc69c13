// SPDX-License-Identifier: GPL-2.0

//! The structures of the format, as they are stored. Integers are little-endian, and nothing is
//! aligned.

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// Second number of an image. Today's images begin with [`TODAYS_MAGIC`].
pub(crate) const MAGIC: u32 = 0xc078_629a;
/// First number of an image of today's format.
pub(crate) const TODAYS_MAGIC: u32 = 0xd078_629a;
/// The only version that was ever written.
pub(crate) const VERSION: u32 = 1;

/// The header. The table of inodes follows, up to `data_offset`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) version: U32,
    pub(crate) magic: U32,
    /// Position of the variable data, in bytes. All references count from it.
    pub(crate) data_offset: U64,
    pub(crate) _unused: [U32; 28],
}

/// A reference to variable data.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Reference {
    pub(crate) offset: U64,
    pub(crate) length: U32,
}

/// An inode. Its number is its place in the table; the root has number 0.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Inode {
    pub(crate) mode: U32,
    pub(crate) nlink: U32,
    pub(crate) uid: U32,
    pub(crate) gid: U32,
    pub(crate) rdev: U32,
    pub(crate) size: U64,
    pub(crate) mtime: U64,
    pub(crate) mtime_nsec: U32,
    pub(crate) _ctime: U64,
    pub(crate) _ctime_nsec: U32,
    /// Entries of a directory, the target of a symlink, or the path of an object.
    pub(crate) data: Reference,
    pub(crate) xattrs: Reference,
    /// A SHA-256 fs-verity digest.
    pub(crate) digest: Reference,
    pub(crate) _unused: [U32; 2],
}

/// An entry of a directory. A directory is a count, so many of these, and the names.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Dirent {
    pub(crate) inode: U32,
    /// Counts from the end of the entries.
    pub(crate) name_offset: U32,
    pub(crate) name_length: u8,
    /// `DT_*` of readdir(3).
    pub(crate) file_type: u8,
    pub(crate) _padding: U16,
}

/// An extended attribute. A set of them is a count (16 bits), so many of these, and then the name
/// and the value of each.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Xattr {
    pub(crate) name_length: U16,
    pub(crate) value_length: U16,
}

const _: () = assert!(size_of::<Header>() == 128);
const _: () = assert!(size_of::<Inode>() == 96);
const _: () = assert!(size_of::<Dirent>() == 12);
const _: () = assert!(size_of::<Xattr>() == 4);
