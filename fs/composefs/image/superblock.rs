// SPDX-License-Identifier: GPL-2.0

//! The composefs header and the EROFS superblock: which images are accepted.
//!
//! An image is refused if a field has a value that no composefs tool writes. The error names the
//! field.

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
    Corrupt,
    Error,
    Source,
    BLOCK_BITS, //
};

/// Position of the EROFS superblock, in bytes.
///
/// C header: `fs/erofs/erofs_fs.h`: `EROFS_SUPER_OFFSET`
const SUPER_OFFSET: usize = 1024;

/// Nanoseconds in a second. Every nanosecond field must be below.
pub(super) const NSEC_PER_SEC: u32 = 1_000_000_000;

/// Position of the first byte that an inode may be at: the end of the superblock.
pub(super) const FIRST_INODE: u64 = 1024 + 128;

const COMPOSEFS_MAGIC: u32 = 0xd078_629a;
const COMPOSEFS_VERSION: u32 = 1;
const COMPOSEFS_VERSION_MAX: u32 = 2;
const COMPOSEFS_FLAG_HAS_ACL: u32 = 1 << 0;

/// Second number of images of the first patch series, of early 2023, whose format is another one.
const FIRST_FORMAT_MAGIC: u32 = 0xc078_629a;

const EROFS_MAGIC: u32 = 0xe0f5_e1e2;
const EROFS_FEATURE_COMPAT_MTIME: u32 = 0x2;
const EROFS_FEATURE_COMPAT_XATTR_FILTER: u32 = 0x4;
const EROFS_FEATURE_INCOMPAT_CHUNKED_FILE: u32 = 0x4;

/// The composefs header, at the start of the image.
///
/// Written by `mkcomposefs` as `struct lcfs_erofs_header_s`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: U32,
    version: U32,
    flags: U32,
    composefs_version: U32,
    _unused: [U32; 4],
}

/// The EROFS superblock, at byte 1024.
///
/// C header: `fs/erofs/erofs_fs.h`: `struct erofs_super_block`
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    magic: U32,
    _checksum: U32,
    feature_compat: U32,
    blkszbits: u8,
    sb_extslots: u8,
    rootnid_2b: U16,
    inos: U64,
    epoch: I64,
    fixed_nsec: U32,
    blocks_lo: U32,
    meta_blkaddr: U32,
    xattr_blkaddr: U32,
    uuid: [u8; 16],
    _volume_name: [u8; 16],
    feature_incompat: U32,
    available_compr_algs: U16,
    extra_devices: U16,
    _devt_slotoff: U16,
    dirblkbits: u8,
    xattr_prefix_count: u8,
    _xattr_prefix_start: U32,
    packed_nid: U64,
    xattr_filter_reserved: u8,
    _reserved: [u8; 23],
}

const _: () = assert!(size_of::<RawHeader>() == 32);
const _: () = assert!(size_of::<RawSuperblock>() == 128);

/// The header and the superblock of an accepted image, decoded.
///
/// C header: `fs/erofs/erofs_fs.h`: `struct erofs_super_block`
#[derive(Clone, Copy, Debug)]
pub struct Superblock {
    /// Inode number of the root directory. C name: `rootnid_2b`
    pub root_nid: u64,
    /// Number of inodes. It is not checked. C name: `inos`
    pub inos: u64,
    /// Number of 4 KiB blocks. The image is at least as long. C name: `blocks_lo`
    pub blocks: u32,
    /// Volume UUID, all zeros if the writer set none. C name: `uuid`
    pub uuid: [u8; 16],
    /// Version of the layout: 0, 1 or 2.
    pub composefs_version: u32,
    /// The image has POSIX ACLs. Only versions 0 and 1 have this flag.
    pub has_acl: bool,
    /// Seconds since 1970 that compact inodes count from. C name: `epoch`
    pub(super) epoch: i64,
    /// Nanoseconds of compact inodes; below 10^9. C name: `fixed_nsec`
    pub(super) fixed_nsec: u32,
    /// Position of the shared xattrs, in bytes. C name: `xattr_blkaddr`
    pub(super) xattr_pos: u64,
    /// The xattr name filters of inodes are valid.
    pub(super) xattr_filter: bool,
}

impl Superblock {
    /// Reads and checks the header and the superblock.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the first field that is damaged or not supported.
    pub(super) fn read<S: Source>(source: &S) -> Result<Self, Error<S::Error>> {
        let too_small = || Corrupt::new("image is too small for a superblock", source.size());
        if source.size() == 0 {
            return Err(too_small().into());
        }
        let run = source.run(0).map_err(Error::Source)?;
        let header = RawHeader::ref_from_prefix(&run).ok();
        if let Some((header, _)) = header {
            // An image of the first format may be smaller than any of today's.
            header.check_format()?;
        }
        if source.size() < FIRST_INODE {
            return Err(too_small().into());
        }
        let raw = run
            .get(SUPER_OFFSET..)
            .and_then(|bytes| RawSuperblock::ref_from_prefix(bytes).ok());
        let (Some((header, _)), Some((raw, _))) = (header, raw) else {
            return Err(Corrupt::new("image ends before its size", 0).into());
        };
        header.check()?;
        raw.check(source.size())?;
        Ok(Self {
            root_nid: u64::from(raw.rootnid_2b.get()),
            inos: raw.inos.get(),
            blocks: raw.blocks_lo.get(),
            uuid: raw.uuid,
            composefs_version: header.composefs_version.get(),
            has_acl: header.flags.get() & COMPOSEFS_FLAG_HAS_ACL != 0,
            epoch: raw.epoch.get(),
            fixed_nsec: raw.fixed_nsec.get(),
            xattr_pos: block_pos(raw.xattr_blkaddr.get()),
            xattr_filter: raw.feature_compat.get() & EROFS_FEATURE_COMPAT_XATTR_FILTER != 0
                && raw.xattr_filter_reserved == 0,
        })
    }
}

/// Fails with `what` unless `ok`. `at` is the position of the field in bytes.
fn require(ok: bool, what: &'static str, at: u64) -> Result<(), Corrupt> {
    if ok {
        Ok(())
    } else {
        Err(Corrupt::new(what, at))
    }
}

impl RawHeader {
    /// Tells an image of the first format from a file that is no image.
    fn check_format(&self) -> Result<(), Corrupt> {
        require(
            self.version.get() != FIRST_FORMAT_MAGIC,
            "has the format of early 2023: composefs-old-image(1) turns it into today's",
            4,
        )
    }

    fn check(&self) -> Result<(), Corrupt> {
        require(
            self.magic.get() == COMPOSEFS_MAGIC,
            "composefs magic is wrong",
            0,
        )?;
        require(
            self.version.get() == COMPOSEFS_VERSION,
            "composefs header: version is not supported",
            4,
        )?;
        require(
            self.flags.get() & !COMPOSEFS_FLAG_HAS_ACL == 0,
            "composefs header: flags are not supported",
            8,
        )?;
        require(
            self.composefs_version.get() <= COMPOSEFS_VERSION_MAX,
            "composefs header: composefs_version is not supported",
            12,
        )
    }
}

impl RawSuperblock {
    /// `size` is that of the image, in bytes.
    fn check(&self, size: u64) -> Result<(), Corrupt> {
        require(
            self.magic.get() == EROFS_MAGIC,
            "EROFS magic is wrong",
            1024,
        )?;
        // No composefs tool writes a checksum, so an image with one is refused.
        let compat = EROFS_FEATURE_COMPAT_MTIME | EROFS_FEATURE_COMPAT_XATTR_FILTER;
        require(
            self.feature_compat.get() & !compat == 0,
            "superblock: feature_compat has unsupported bits",
            1032,
        )?;
        require(
            self.blkszbits == BLOCK_BITS,
            "superblock: blkszbits is not 12",
            1036,
        )?;
        require(
            self.sb_extslots == 0,
            "superblock: sb_extslots is not 0",
            1037,
        )?;
        require(
            self.fixed_nsec.get() < NSEC_PER_SEC,
            "superblock: fixed_nsec is a second or more",
            1056,
        )?;
        // A truncated image is refused at mount, not at the first read beyond its end.
        require(
            block_pos(self.blocks_lo.get()) <= size,
            "superblock: image is shorter than blocks says",
            1060,
        )?;
        require(
            self.meta_blkaddr.get() == 0,
            "superblock: meta_blkaddr is not 0",
            1064,
        )?;
        require(
            block_pos(self.xattr_blkaddr.get()) <= size,
            "superblock: xattr_blkaddr is beyond the end of the image",
            1068,
        )?;
        require(
            self.feature_incompat.get() & !EROFS_FEATURE_INCOMPAT_CHUNKED_FILE == 0,
            "superblock: feature_incompat has unsupported bits",
            1104,
        )?;
        require(
            self.available_compr_algs.get() == 0,
            "superblock: available_compr_algs is not 0",
            1108,
        )?;
        require(
            self.extra_devices.get() == 0,
            "superblock: extra_devices is not 0",
            1110,
        )?;
        require(
            self.dirblkbits == 0,
            "superblock: dirblkbits is not 0",
            1114,
        )?;
        require(
            self.xattr_prefix_count == 0,
            "superblock: xattr_prefix_count is not 0",
            1115,
        )?;
        require(
            self.packed_nid.get() == 0,
            "superblock: packed_nid is not 0",
            1120,
        )
    }
}
