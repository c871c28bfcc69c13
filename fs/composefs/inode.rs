// SPDX-License-Identifier: GPL-2.0

//! Inodes: reading them from the image, and what is kept of them in memory.
//!
//! The inode number is the nid, so `iget` by inode number finds an inode that is in memory.

use crate::vfs::{
    file::RegularFile,
    inode::{
        Attributes,
        Iget,
        Inode,
        InodeRef,
        InodeType,
        NewInode, //
    },
    super_block::SuperBlock, //
};
use crate::{
    image::{
        self,
        Corrupt,
        FileType,
        InodeLayout,
        LookupHint,
        PackedLayout,
        XattrFilter, //
    },
    object::Object,
    options::Verity,
    report,
    sb::SbInfo,
    Composefs, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// Data of every inode, besides `struct inode`.
pub(crate) struct InodeData {
    layout: PackedLayout,
    /// Cache of [`xattr_filter`]. 0 until it is first read.
    xattr_filter: Atomic<u32>,
    /// Of a directory, [`LookupHint::ordered`]. Of other inodes, [`Location::block`]. It fills what
    /// would be padding.
    number: Atomic<u32>,
}

/// Where the content of a regular file is. An inode gets it when the file is first opened, and
/// drops it when it is evicted.
pub(crate) enum FileData {
    /// In an object.
    Object(Object),
    /// In the image. These are the bytes.
    Inline(KVec<u8>),
    /// Nowhere: the content is zero bytes.
    Zeros,
}

/// Returns what reads of the inode's data and xattrs start from.
#[inline]
pub(crate) fn layout(inode: &Inode<Composefs>) -> InodeLayout {
    InodeLayout::new(inode.ino(), inode.size(), inode.data().layout)
}

/// Shift of the walk number in `hint` of a directory. The bits below have a cookie.
const WALK_SHIFT: u32 = usize::BITS - 8;

/// The bits of `hint` that have a cookie.
const COOKIE: usize = (1 << WALK_SHIFT) - 1;

/// What earlier calls of lookup and readdir have learned about a directory.
///
/// `hint` of a directory holds the cookie of the entry behind the one that was found last, and the
/// number of the walk that listed the directory. A cookie that does not fit is truncated: a lookup
/// checks the entry that it leads to.
pub(crate) struct DirHint {
    number: usize,
    ordered: u32,
    /// The part that lookups use and change.
    pub(crate) lookup: LookupHint,
}

impl DirHint {
    /// Returns the hint of the directory `dir`.
    #[inline]
    pub(crate) fn load(dir: &Inode<Composefs>) -> Self {
        let number = dir.hint().get();
        let ordered = dir.data().number.load(Relaxed);
        Self {
            number,
            ordered,
            lookup: LookupHint {
                // Cannot fail: `usize` has at most 64 bits.
                next: u64::try_from(number & COOKIE).unwrap_or(0),
                ordered,
            },
        }
    }

    /// Returns the number of the walk that listed the directory, 0 for none. See
    /// [`Cache::begin_listing`](crate::cache::Cache::begin_listing).
    #[inline]
    pub(crate) fn walk(&self) -> u32 {
        // Cannot fail: the number has 8 bits.
        u32::try_from(self.number >> WALK_SHIFT).unwrap_or(0)
    }

    /// Stores what a lookup has learned. Concurrent lookups may overwrite each other's cookie or
    /// block count: both are valid with any value of the other.
    #[inline]
    pub(crate) fn store_lookup(&self, dir: &Inode<Composefs>) {
        // A cookie that `usize` cannot hold becomes 0, which is no hint.
        let next = usize::try_from(self.lookup.next).unwrap_or(0) & COOKIE;
        dir.hint().set(next | (self.number & !COOKIE));
        if self.lookup.ordered != self.ordered {
            dir.data().number.store(self.lookup.ordered, Relaxed);
        }
    }

    /// Stores the number of the walk that lists the directory.
    pub(crate) fn store_walk(&self, dir: &Inode<Composefs>, walk: u32) {
        // Cannot fail: the number has 8 bits.
        let walk = usize::try_from(walk).unwrap_or(0) << WALK_SHIFT;
        let number = (self.number & COOKIE) | walk;
        if number != self.number {
            dir.hint().set(number);
        }
    }
}

/// The directory entry that an inode was found by.
#[derive(Clone, Copy, Default)]
pub(crate) struct Location {
    /// Nid of the directory, 0 if unknown.
    pub(crate) directory: u64,
    /// Number of the directory's block with the entry, counted from 1. 0 if unknown.
    pub(crate) block: u32,
}

impl Location {
    /// `block` is counted from 0.
    #[inline]
    pub(crate) fn new(directory: u64, block: u64) -> Self {
        Self {
            directory,
            // A number that does not fit is unknown.
            block: u32::try_from(block.saturating_add(1)).unwrap_or(0),
        }
    }
}

/// Returns the entry that the inode was found by. The inode must not be a directory.
///
/// A file that was opened by a file handle has a disconnected dentry without a parent. The location
/// lets it be encoded in a handle again, with the same result.
pub(crate) fn location(inode: &Inode<Composefs>) -> Location {
    Location {
        // Cannot fail: `usize` has at most 64 bits.
        directory: u64::try_from(inode.hint().get()).unwrap_or(0),
        block: inode.data().number.load(Relaxed),
    }
}

/// Returns the xattr name filter of the inode. It is read from the image once: programs ask each
/// file for the same few xattrs, and most files have none of them.
///
/// # Errors
///
/// Those of [`Image::xattr_filter`](image::Image::xattr_filter).
pub(crate) fn xattr_filter(inode: &Inode<Composefs>) -> Result<XattrFilter, image::Error<Error>> {
    let cached = &inode.data().xattr_filter;
    // A filter of 0 rules out no name. It is rare, and is read again each time.
    let filter = XattrFilter(cached.load(Relaxed));
    if filter != XattrFilter::default() {
        return Ok(filter);
    }
    let image = &inode.super_block().data().image;
    let filter = image.xattr_filter(&layout(inode))?;
    cached.store(filter.0, Relaxed);
    Ok(filter)
}

/// Gets the inode `nid`, which was found at `location`, from memory or from the image. `None` for a
/// whiteout.
///
/// # Errors
///
/// `EUCLEAN` if the inode is damaged, else the error of reading it.
pub(crate) fn get(
    sb: &SuperBlock<Composefs>,
    nid: u64,
    location: Location,
) -> Result<Option<InodeRef<'_, Composefs>>> {
    match sb.iget(nid)? {
        Iget::Cached(inode) => Ok(Some(inode)),
        Iget::New(new) => match read(sb.data(), new, nid, location) {
            Ok(inode) => Ok(inode),
            Err(image::Error::Source(e)) => Err(e),
            Err(image::Error::Corrupt(corrupt)) => {
                report::warn_corrupt(sb.data(), nid, corrupt);
                sb.report_corruption();
                Err(EFSCORRUPTED)
            }
        },
    }
}

/// Reads the inode `nid` from the image.
fn read<'sb>(
    sbi: &SbInfo,
    new: NewInode<'sb, Composefs>,
    nid: u64,
    location: Location,
) -> Result<Option<InodeRef<'sb, Composefs>>, image::Error<Error>> {
    let inode = sbi.image.inode(nid)?;
    if inode.is_whiteout() {
        return Ok(None);
    }
    let file_type = inode.file_type();
    let data = InodeData {
        layout: inode.layout.packed(),
        xattr_filter: Atomic::new(0),
        number: Atomic::new(match file_type {
            FileType::Directory => 0,
            _ => location.block,
        }),
    };
    let attributes = Attributes {
        mode: inode.mode,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        size: inode.size,
        blocks: inode.blocks(),
        mtime: inode.mtime,
        mtime_nsec: inode.mtime_nsec,
        no_acl: !sbi.has_acl() || !inode.layout.has_xattrs(),
        // See `DirHint` and `location`.
        hint: match file_type {
            FileType::Directory => 0,
            // A nid that does not fit is unknown.
            _ => usize::try_from(location.directory).unwrap_or(0),
        },
    };
    let target;
    let kind = match file_type {
        FileType::Directory => InodeType::Directory,
        FileType::Regular => {
            // Then each read of an object fails that cannot be verified.
            let verified = sbi.verity == Verity::Required && inode.layout.is_external();
            InodeType::Regular(RegularFile::stacked(verified))
        }
        FileType::Symlink => {
            target = read_inline(sbi, &inode.layout, image::SYMLINK_MAX)?;
            if target.contains(&0) {
                return Err(Corrupt::in_inode("symlink target has a NUL", nid).into());
            }
            InodeType::Symlink(&target)
        }
        _ => InodeType::Special(inode.rdev),
    };
    new.init(&attributes, kind, data)
        .map(Some)
        .map_err(image::Error::Source)
}

/// Reads all data of an inode, at most `max` bytes, from the image.
///
/// # Errors
///
/// [`image::Error::Corrupt`] if there are more data or the image has not all of them.
pub(crate) fn read_inline(
    sbi: &SbInfo,
    layout: &InodeLayout,
    max: u64,
) -> Result<KVec<u8>, image::Error<Error>> {
    let corrupt = |what| image::Error::from(Corrupt::in_inode(what, layout.nid()));
    let size = Some(layout.size())
        .filter(|size| *size <= max)
        .and_then(|size| usize::try_from(size).ok());
    let size = size.ok_or_else(|| corrupt("data in the image are too large"))?;
    let data = KVec::zeroed(size, GFP_KERNEL_ACCOUNT);
    let mut data = data.map_err(|e| image::Error::Source(e.into()))?;
    if sbi.image.read(layout, 0, &mut data)? != size {
        return Err(corrupt("data in the image are cut off"));
    }
    Ok(data)
}
