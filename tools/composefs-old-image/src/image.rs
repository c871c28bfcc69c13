// SPDX-License-Identifier: GPL-2.0

//! An image: the header, the inodes, and the data that they name.

use std::ops::Range;

use zerocopy::FromBytes as _;

use crate::error::Error;
use crate::raw;

/// Size of the header, in bytes. It tells whether a file is such an image at all.
pub const HEADER_SIZE: usize = size_of::<raw::Header>();

const INODE_SIZE: usize = size_of::<raw::Inode>();

/// Longest target of a symlink and path of an object: `PATH_MAX` without the final NUL.
pub(crate) const PATH_MAX: usize = 4095;

const NSEC_PER_SEC: u32 = 1_000_000_000;

/// The bytes of an image, and where its parts are.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    /// The table of inodes.
    table: &'a [u8],
    /// Position of the variable data, in bytes.
    data_offset: u64,
}

/// Some bytes of an image, and where they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area<'a> {
    pub(crate) at: u64,
    pub(crate) bytes: &'a [u8],
}

/// Type of a file, as in the mode and, shifted, in the entries of directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileType {
    Fifo,
    CharDevice,
    Directory,
    BlockDevice,
    Regular,
    Symlink,
    Socket,
}

/// An inode, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inode<'a> {
    pub(crate) file_type: FileType,
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// 0 for all files but devices.
    pub(crate) rdev: u32,
    pub(crate) size: u64,
    /// Seconds since 1970. Those of a time before are above `i64::MAX`, as the dump has them: both
    /// mkcomposefs and the composefs crate read it so.
    pub(crate) mtime: u64,
    pub(crate) mtime_nsec: u32,
    pub(crate) data: Area<'a>,
    pub(crate) xattrs: Area<'a>,
    pub(crate) digest: &'a [u8],
}

impl<'a> Image<'a> {
    /// Checks the header of an image, of which the first bytes are enough: [`HEADER_SIZE`].
    ///
    /// # Errors
    ///
    /// That it is not such an image.
    pub fn check_header(bytes: &[u8]) -> Result<(), Error> {
        header(bytes).map(drop)
    }

    /// Finds the parts of an image.
    ///
    /// # Errors
    ///
    /// That it is not such an image, or ends too early.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let data_offset = header(bytes)?.data_offset.get();
        let end = usize::try_from(data_offset).ok();
        let table = end.and_then(|end| bytes.get(HEADER_SIZE..end));
        let Some(table) = table else {
            return Err(Error::damaged(
                8,
                "header: the variable data begins in the header or behind the end of the image",
            ));
        };
        Ok(Self {
            bytes,
            table,
            data_offset,
        })
    }

    /// Size of the image, in bytes.
    pub(crate) fn size(&self) -> u64 {
        to_u64(self.bytes.len())
    }

    /// Number of inodes.
    pub(crate) fn inodes(&self) -> usize {
        self.table.len() / INODE_SIZE
    }

    /// Decodes an inode.
    ///
    /// # Errors
    ///
    /// What of it is wrong.
    pub(crate) fn inode(&self, number: u32) -> Result<Inode<'a>, Error> {
        self.decode(number).map_err(|error| error.of(number))
    }

    fn decode(&self, number: u32) -> Result<Inode<'a>, Error> {
        let offset = u64::from(number).saturating_mul(to_u64(INODE_SIZE));
        let at = offset.saturating_add(to_u64(HEADER_SIZE));
        let raw = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.table.get(offset..))
            .and_then(|bytes| raw::Inode::ref_from_prefix(bytes).ok());
        let Some((raw, _)) = raw else {
            let at = self.data_offset;
            return Err(Error::damaged(at, "the table of inodes ends before it"));
        };
        // Positions of fields, for the errors.
        let field = |offset: u64| at.saturating_add(offset);

        let mode = raw.mode.get();
        let Some(file_type) = FileType::of_mode(mode) else {
            return Err(Error::damaged(field(0), "its mode has no known type"));
        };
        let nlink = raw.nlink.get();
        if nlink == 0 {
            return Err(Error::damaged(field(4), "its link count is 0"));
        }
        let mtime_nsec = raw.mtime_nsec.get();
        if mtime_nsec >= NSEC_PER_SEC {
            return Err(Error::damaged(
                field(36),
                "its nanoseconds are a second or more",
            ));
        }
        let inode = Inode {
            file_type,
            mode,
            nlink,
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            rdev: match file_type {
                FileType::CharDevice | FileType::BlockDevice => raw.rdev.get(),
                _ => 0,
            },
            size: raw.size.get(),
            mtime: raw.mtime.get(),
            mtime_nsec,
            data: self.area(&raw.data, field(52), "its data is not in the image")?,
            xattrs: self.area(&raw.xattrs, field(64), "its xattrs are not in the image")?,
            digest: self
                .area(&raw.digest, field(76), "its digest is not in the image")?
                .bytes,
        };
        inode.check(field(52), field(76))?;
        Ok(inode)
    }

    /// The bytes that a reference names. `at` is the position of the reference.
    fn area(
        &self,
        reference: &raw::Reference,
        at: u64,
        outside: &'static str,
    ) -> Result<Area<'a>, Error> {
        let length = reference.length.get();
        if length == 0 {
            return Ok(Area { at, bytes: &[] });
        }
        let start = self.data_offset.checked_add(reference.offset.get());
        let found = start.and_then(|start| {
            let end = start.checked_add(u64::from(length))?;
            let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
            let bytes = self.bytes.get(range)?;
            Some(Area { at: start, bytes })
        });
        found.ok_or_else(|| Error::damaged(at, outside))
    }
}

impl Inode<'_> {
    /// Checks that the data fits the type. `data` and `digest` are positions of the references.
    fn check(&self, data: u64, digest: u64) -> Result<(), Error> {
        let wrong = |at: u64, what: &'static str| Err(Error::damaged(at, what));
        match self.file_type {
            FileType::Directory => {}
            FileType::Regular if self.size == 0 && !self.data.bytes.is_empty() => {
                return wrong(data, "it is empty, but has the path of an object");
            }
            FileType::Regular if self.size != 0 && self.data.bytes.is_empty() => {
                return wrong(data, "it is not empty, but has no path of an object");
            }
            FileType::Regular => self.check_path()?,
            FileType::Symlink if self.data.bytes.is_empty() => {
                return wrong(data, "it is a symbolic link without a target");
            }
            FileType::Symlink => self.check_path()?,
            _ if !self.data.bytes.is_empty() => {
                return wrong(data, "it is a special file, but has data");
            }
            _ => {}
        }
        match (self.digest.len(), self.file_type) {
            (0, _) | (32, FileType::Regular) => Ok(()),
            (32, _) => wrong(digest, "it has a digest, but is not a regular file"),
            _ => wrong(digest, "its digest has not 32 bytes"),
        }
    }

    /// Checks a target or the path of an object.
    fn check_path(&self) -> Result<(), Error> {
        let Area { at, bytes } = self.data;
        if bytes.len() > PATH_MAX {
            return Err(Error::damaged(
                at,
                "its target or path is longer than 4095 bytes",
            ));
        }
        if bytes.contains(&0) {
            return Err(Error::damaged(at, "its target or path has a NUL in it"));
        }
        Ok(())
    }
}

impl FileType {
    /// The type in a mode, if the mode has nothing else but permissions.
    fn of_mode(mode: u32) -> Option<Self> {
        match mode & !0o7777 {
            0o010_000 => Some(Self::Fifo),
            0o020_000 => Some(Self::CharDevice),
            0o040_000 => Some(Self::Directory),
            0o060_000 => Some(Self::BlockDevice),
            0o100_000 => Some(Self::Regular),
            0o120_000 => Some(Self::Symlink),
            0o140_000 => Some(Self::Socket),
            _ => None,
        }
    }

    /// The type in an entry of a directory.
    pub(crate) fn of_dirent(file_type: u8) -> Option<Self> {
        // `DT_*` are the bits of the mode.
        Self::of_mode(u32::from(file_type).checked_shl(12)?)
    }
}

fn header(bytes: &[u8]) -> Result<&raw::Header, Error> {
    let word = |range: Range<usize>| {
        let bytes = bytes.get(range)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    if word(4..8) != Some(raw::MAGIC) {
        return Err(match word(0..4) {
            Some(raw::TODAYS_MAGIC) => Error::Todays,
            _ => Error::NotAnImage,
        });
    }
    let Ok((header, _)) = raw::Header::ref_from_prefix(bytes) else {
        let at = to_u64(bytes.len());
        return Err(Error::damaged(at, "header: the image ends in it"));
    };
    match header.version.get() {
        raw::VERSION => Ok(header),
        version => Err(Error::Version(version)),
    }
}

/// Widens a length. Cannot fail: `usize` has at most 64 bits.
pub(crate) fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
