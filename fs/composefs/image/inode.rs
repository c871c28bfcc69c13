// SPDX-License-Identifier: GPL-2.0

//! Inodes: decoding and checking.

use zerocopy::{
    little_endian::{
        I64,
        U16,
        U32,
        U64, //
    },
    FromBytes as _, //
};
use zerocopy_derive::{
    FromBytes,
    Immutable,
    KnownLayout,
    Unaligned, //
};

use super::{
    block_pos,
    reader::{
        copy_front,
        BlockReader, //
    },
    superblock::{
        FIRST_INODE,
        NSEC_PER_SEC, //
    },
    to_u64,
    Corrupt,
    Error,
    Image,
    Source,
    BLOCK_SIZE,
    NID_SIZE, //
};

/// Longest target of a symlink in bytes: `PATH_MAX` less the NUL that the kernel appends.
pub const SYMLINK_MAX: u64 = 4095;

const COMPACT_SIZE: u64 = 32;
const EXTENDED_SIZE: u64 = 64;

/// Bit of `i_format`: the inode is extended.
///
/// C header: `fs/erofs/erofs_fs.h`: `EROFS_I_VERSION_BIT`
const FORMAT_EXTENDED: u16 = 1 << 0;

/// Bits of `i_format` that composefs images use: form and layout.
const FORMAT_KNOWN: u16 = 0xf;

const S_IFMT: u16 = 0o170000;
const S_IFSOCK: u16 = 0o140000;
const S_IFLNK: u16 = 0o120000;
const S_IFREG: u16 = 0o100000;
const S_IFBLK: u16 = 0o060000;
const S_IFDIR: u16 = 0o040000;
const S_IFCHR: u16 = 0o020000;
const S_IFIFO: u16 = 0o010000;

/// A compact inode. An extended one starts with the same fields up to `i_mode`, and has `i_u` at
/// the same place.
///
/// C header: `fs/erofs/erofs_fs.h`: `struct erofs_inode_compact`
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawCompact {
    i_format: U16,
    i_xattr_icount: U16,
    i_mode: U16,
    i_nlink: U16,
    i_size: U32,
    i_mtime: U32,
    i_u: U32,
    _i_ino: U32,
    i_uid: U16,
    i_gid: U16,
    _i_reserved: U32,
}

/// An extended inode.
///
/// C header: `fs/erofs/erofs_fs.h`: `struct erofs_inode_extended`
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawExtended {
    _i_format: U16,
    i_xattr_icount: U16,
    i_mode: U16,
    _i_nb: U16,
    i_size: U64,
    i_u: U32,
    _i_ino: U32,
    i_uid: U32,
    i_gid: U32,
    i_mtime: I64,
    i_mtime_nsec: U32,
    i_nlink: U32,
    _i_reserved: [u8; 16],
}

const _: () = assert!(size_of::<RawCompact>() == 32);
const _: () = assert!(size_of::<RawExtended>() == 64);

/// The type of a file, from a directory entry or a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A value that is not defined.
    Unknown,
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Character device, or a whiteout.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// FIFO.
    Fifo,
    /// Socket.
    Socket,
    /// Symbolic link.
    Symlink,
}

impl FileType {
    /// Decodes the `file_type` byte of a directory entry.
    ///
    /// C header: `include/linux/fs_types.h`: `FT_REG_FILE` and others
    pub fn of_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::CharDevice,
            4 => Self::BlockDevice,
            5 => Self::Fifo,
            6 => Self::Socket,
            7 => Self::Symlink,
            _ => Self::Unknown,
        }
    }

    /// Returns the `file_type` byte of a directory entry, which `fs_ftype_to_dtype()` takes.
    ///
    /// C header: `include/linux/fs_types.h`: `FT_REG_FILE` and others
    pub fn as_raw(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }

    /// Decodes the `S_IFMT` bits of a mode.
    pub fn of_mode(mode: u16) -> Self {
        match mode & S_IFMT {
            S_IFREG => Self::Regular,
            S_IFDIR => Self::Directory,
            S_IFCHR => Self::CharDevice,
            S_IFBLK => Self::BlockDevice,
            S_IFIFO => Self::Fifo,
            S_IFSOCK => Self::Socket,
            S_IFLNK => Self::Symlink,
            _ => Self::Unknown,
        }
    }
}

/// How the data of an inode is stored.
///
/// C header: `fs/erofs/erofs_fs.h`: `EROFS_INODE_FLAT_PLAIN` and others
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// In consecutive blocks.
    Plain,
    /// In consecutive blocks, except for the last block, which is behind the inode and its xattrs.
    Inline,
    /// In chunks. In a composefs image all chunks are holes, and the content is in an object.
    Chunk,
}

/// The part of an [`InodeLayout`] that `struct inode` does not have: the kernel keeps it with each
/// inode in memory.
///
/// The default is that of a compact inode without xattrs, whose data starts at block 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackedLayout {
    /// First block of the data. C name: `i_u`
    start: u32,
    /// Size of the xattr area, in units of 4 bytes; see [`InodeLayout::xattr_area`].
    /// C name: `i_xattr_icount`
    icount: u16,
    /// The low byte of `i_format`.
    format: u8,
}

const _: () = assert!(size_of::<PackedLayout>() <= 8);

/// Where the data and xattrs of an inode are.
///
/// It comes from a [`DiskInode`], or from parts that were kept in memory. Every use checks it.
#[derive(Clone, Copy, Debug)]
pub struct InodeLayout {
    nid: u64,
    size: u64,
    packed: PackedLayout,
}

impl InodeLayout {
    /// Puts a layout together from parts that were kept.
    pub fn new(nid: u64, size: u64, packed: PackedLayout) -> Self {
        Self { nid, size, packed }
    }

    /// Returns the inode number. The inode is at byte `32 * nid`.
    pub fn nid(&self) -> u64 {
        self.nid
    }

    /// Returns the size of the data in bytes. C name: `i_size`
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the part to keep, besides number and size.
    pub fn packed(&self) -> PackedLayout {
        self.packed
    }

    /// Whether the inode has an xattr area.
    pub fn has_xattrs(&self) -> bool {
        self.packed.icount != 0
    }

    /// Returns the position of the inode, in bytes.
    pub(super) fn pos(&self) -> Result<u64, Corrupt> {
        inode_pos(self.nid)
    }

    /// Returns how the data is stored.
    pub(super) fn data_layout(&self) -> Result<DataLayout, Corrupt> {
        match self.packed.format >> 1 {
            0 => Ok(DataLayout::Plain),
            2 => Ok(DataLayout::Inline),
            4 => Ok(DataLayout::Chunk),
            _ => Err(Corrupt::new(
                "inode: data layout is not supported",
                self.pos()?,
            )),
        }
    }

    /// Returns the position of the data's first block, in bytes.
    pub(super) fn start(&self) -> u64 {
        block_pos(self.packed.start)
    }

    /// Returns position and length of the xattr area, in bytes. The length is 0, or at least the
    /// size of the header.
    ///
    /// C header: `fs/erofs/erofs_fs.h`: `erofs_xattr_ibody_size()`
    pub(super) fn xattr_area(&self) -> Result<(u64, u64), Corrupt> {
        let pos = self.pos()?;
        let size = if u16::from(self.packed.format) & FORMAT_EXTENDED != 0 {
            EXTENDED_SIZE
        } else {
            COMPACT_SIZE
        };
        let len = match u64::from(self.packed.icount) {
            0 => 0,
            // A header of 12 bytes counts as one unit of 4.
            units => units.saturating_mul(4).saturating_add(8),
        };
        Ok((pos.saturating_add(size), len))
    }

    /// Returns the position of the inline data, in bytes: behind the inode and its xattrs.
    pub(super) fn inline_pos(&self) -> Result<u64, Corrupt> {
        let (pos, len) = self.xattr_area()?;
        Ok(pos.saturating_add(len))
    }
}

/// An inode, decoded and checked.
///
/// C header: `fs/erofs/erofs_fs.h`: `struct erofs_inode_compact`, `struct erofs_inode_extended`
#[derive(Clone, Copy, Debug)]
pub struct DiskInode {
    /// Type and permissions. The type is never unknown. C name: `i_mode`
    pub mode: u16,
    /// Number of links, never 0. C name: `i_nlink`
    pub nlink: u32,
    /// Owner. C name: `i_uid`
    pub uid: u32,
    /// Group. C name: `i_gid`
    pub gid: u32,
    /// Size of the content in bytes, at most `i64::MAX`. C name: `i_size`
    pub size: u64,
    /// Modification time in seconds since 1970. C name: `i_mtime`
    pub mtime: i64,
    /// Nanoseconds of `mtime`, below 10^9. C name: `i_mtime_nsec`
    pub mtime_nsec: u32,
    /// Device number as `new_encode_dev()` encodes it, 0 unless the inode is a device.
    /// C name: `i_u`
    pub rdev: u32,
    /// Where its data and xattrs are.
    pub layout: InodeLayout,
}

impl DiskInode {
    /// Returns the type of the file, never [`FileType::Unknown`].
    pub fn file_type(&self) -> FileType {
        FileType::of_mode(self.mode)
    }

    /// Returns the number of units of 512 bytes in the blocks that the content needs.
    pub fn blocks(&self) -> u64 {
        const UNITS: u64 = BLOCK_SIZE / 512;
        // OVERFLOW: Cannot happen: the size is at most `i64::MAX`.
        self.size.div_ceil(BLOCK_SIZE).saturating_mul(UNITS)
    }

    /// Whether the inode is a whiteout: a character device 0:0, with which overlayfs marks a name
    /// that does not exist.
    ///
    /// C header: `include/linux/fs.h`: `IS_WHITEOUT()`
    pub fn is_whiteout(&self) -> bool {
        self.file_type() == FileType::CharDevice && self.rdev == 0
    }
}

/// Returns the position of an inode, in bytes.
fn inode_pos(nid: u64) -> Result<u64, Corrupt> {
    match nid.checked_mul(NID_SIZE) {
        Some(pos) if pos >= FIRST_INODE => Ok(pos),
        Some(pos) => Err(Corrupt::new("inode number lies in the superblock", pos)),
        None => Err(Corrupt::new("inode number is out of range", u64::MAX)),
    }
}

impl<S: Source> Image<S> {
    /// Reads the inode `nid`.
    ///
    /// The position of its data is checked, except for a regular file, which may have none: see
    /// [`Image::content`].
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the number or a field is invalid.
    // Inlining saves a quarter of the instructions: the caller uses each field once.
    #[inline(always)]
    pub fn inode(&self, nid: u64) -> Result<DiskInode, Error<S::Error>> {
        let pos = inode_pos(nid)?;
        let run = self.run(pos)?;
        // 32 bytes divide a block, so a compact inode is within one run.
        let Ok((compact, _)) = RawCompact::ref_from_prefix(&run) else {
            return Err(Corrupt::new("inode crosses the end of the image", pos).into());
        };
        let format = compact.i_format.get();
        let inode = if format & FORMAT_EXTENDED == 0 {
            self.of_compact(nid, compact)?
        } else if let Ok((extended, _)) = RawExtended::ref_from_prefix(&run) {
            of_extended(nid, format, extended)?
        } else {
            let mut bytes = [0; size_of::<RawExtended>()];
            let len = copy_front(&mut bytes, &run);
            let rest = bytes.get_mut(len..).unwrap_or_default();
            BlockReader::new(self).copy(pos.saturating_add(to_u64(len)), rest)?;
            of_extended(nid, format, &zerocopy::transmute!(bytes))?
        };
        self.check(&inode)?;
        Ok(inode)
    }

    #[inline(always)]
    fn of_compact(&self, nid: u64, raw: &RawCompact) -> Result<DiskInode, Corrupt> {
        let sb = self.superblock();
        let Some(mtime) = sb.epoch.checked_add(i64::from(raw.i_mtime.get())) else {
            return Err(Corrupt::new("inode: i_mtime overflows", inode_pos(nid)?));
        };
        let size = u64::from(raw.i_size.get());
        Ok(DiskInode {
            mode: raw.i_mode.get(),
            nlink: u32::from(raw.i_nlink.get()),
            uid: u32::from(raw.i_uid.get()),
            gid: u32::from(raw.i_gid.get()),
            size,
            mtime,
            mtime_nsec: sb.fixed_nsec,
            rdev: rdev(raw.i_mode, raw.i_u),
            layout: layout(nid, size, raw.i_format.get(), raw.i_xattr_icount, raw.i_u)?,
        })
    }

    /// Checks the fields that compact and extended inodes have in common.
    #[inline(always)]
    fn check(&self, inode: &DiskInode) -> Result<(), Corrupt> {
        let pos = inode.layout.pos()?;
        let fail = |what| Err(Corrupt::new(what, pos));
        if inode.nlink == 0 {
            return fail("inode: i_nlink is 0");
        }
        if inode.mtime_nsec >= NSEC_PER_SEC {
            return fail("inode: i_mtime_nsec is a second or more");
        }
        if i64::try_from(inode.size).is_err() {
            return fail("inode: i_size is negative");
        }
        let (area, len) = inode.layout.xattr_area()?;
        self.within(area, len, "xattr area crosses the end of the image")?;
        match inode.file_type() {
            FileType::Unknown => fail("inode: i_mode has no known type"),
            FileType::Symlink if inode.size == 0 => fail("symlink is empty"),
            FileType::Symlink if inode.size > SYMLINK_MAX => fail("symlink is too long"),
            FileType::Directory | FileType::Symlink => self.check_data(&inode.layout),
            // Special files have no data. Whether a regular file has data depends on its xattrs.
            _ => inode.layout.data_layout().map(drop),
        }
    }

    /// Whether `nid` is a whiteout. It reads two fields only: a directory may have hundreds of
    /// whiteouts.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the number is invalid.
    pub(super) fn is_whiteout(
        reader: &mut BlockReader<'_, S>,
        nid: u64,
    ) -> Result<bool, Error<S::Error>> {
        let pos = inode_pos(nid)?;
        let Ok((raw, _)) = RawCompact::ref_from_prefix(reader.at(pos)?) else {
            return Err(Corrupt::new("inode crosses the end of the image", pos).into());
        };
        Ok(raw.i_mode.get() & S_IFMT == S_IFCHR && raw.i_u.get() == 0)
    }
}

/// Decodes an extended inode. `format` is `i_format` as it was first read, which is the value that
/// made the inode an extended one.
fn of_extended(nid: u64, format: u16, raw: &RawExtended) -> Result<DiskInode, Corrupt> {
    let size = raw.i_size.get();
    Ok(DiskInode {
        mode: raw.i_mode.get(),
        nlink: raw.i_nlink.get(),
        uid: raw.i_uid.get(),
        gid: raw.i_gid.get(),
        size,
        mtime: raw.i_mtime.get(),
        mtime_nsec: raw.i_mtime_nsec.get(),
        rdev: rdev(raw.i_mode, raw.i_u),
        layout: layout(nid, size, format, raw.i_xattr_icount, raw.i_u)?,
    })
}

fn layout(
    nid: u64,
    size: u64,
    format: u16,
    icount: U16,
    start: U32,
) -> Result<InodeLayout, Corrupt> {
    match u8::try_from(format) {
        Ok(low) if format & !FORMAT_KNOWN == 0 => Ok(InodeLayout {
            nid,
            size,
            packed: PackedLayout {
                start: start.get(),
                icount: icount.get(),
                format: low,
            },
        }),
        _ => Err(Corrupt::new(
            "inode: i_format has unsupported bits",
            inode_pos(nid)?,
        )),
    }
}

fn rdev(mode: U16, i_u: U32) -> u32 {
    match FileType::of_mode(mode.get()) {
        FileType::CharDevice | FileType::BlockDevice => i_u.get(),
        _ => 0,
    }
}
