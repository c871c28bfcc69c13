// SPDX-License-Identifier: GPL-2.0

//! Inodes of the image as inodes of the VFS. The inode number is the nid.

use crate::{
    blob::Blob,
    fault,
    image::{
        self,
        FileType,
        Form,
        Near,
        Node,
        XattrFilter, //
    },
    mount::Mounted,
    vfs::{
        efscorrupted,
        inode::{
            Attributes,
            Iget,
            Inode,
            Kind,
            NewInode, //
        },
        super_block::SuperBlock, //
    },
    Composefs, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    }, //
};

/// What is kept of an inode besides what every inode has in memory.
pub(crate) struct Kept {
    form: Form,
    /// See [`xattr_filter`]. 0 until it is asked for.
    xattr_filter: Atomic<u32>,
    /// Of a directory [`Near::ordered`], of others [`Place::block`]. It takes what would be
    /// padding.
    number: Atomic<u32>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            form: Form::default(),
            xattr_filter: Atomic::new(0),
            number: Atomic::new(0),
        }
    }
}

/// What an inode acquires when it is used, and gives up when it is evicted.
pub(crate) enum Pinned {
    /// The object with its content.
    Blob(Blob),
    /// Its content, from the image.
    Content(KVec<u8>),
    /// Its content is zero bytes.
    Zeros,
}

/// Largest target of a symbolic link in bytes: a path and its NUL fill a page.
const LINK_MAX: usize = 4095;

/// What is kept of an inode besides its number and size, put together again.
#[inline]
pub(crate) fn node(inode: &Inode<Composefs>) -> Node {
    Node::new(inode.ino(), inode.size(), inode.data().form)
}

/// Where a directory's number has the walk that listed it, and the bits below, which have a cookie.
const WALK_SHIFT: u32 = usize::BITS - 8;
const COOKIE: usize = (1 << WALK_SHIFT) - 1;

/// How a directory has been used so far.
///
/// An inode has room for one number besides what it is made of. That of a directory is the cookie
/// behind the entry that was found last, and the walk that listed it. A cookie that has no room is
/// cut off: it is a guess that is checked.
pub(crate) struct DirUse {
    number: usize,
    ordered: u32,
    /// What lookups have learned.
    pub(crate) near: Near,
}

impl DirUse {
    /// Returns what is known of the directory `dir`.
    #[inline]
    pub(crate) fn of(dir: &Inode<Composefs>) -> Self {
        let number = dir.hint().get();
        let ordered = dir.data().number.load(Relaxed);
        Self {
            number,
            ordered,
            near: Near {
                next: u64::try_from(number & COOKIE).unwrap_or(0),
                ordered,
            },
        }
    }

    /// The walk that listed it, see [`Cache::list`](crate::cache::Cache::list); 0 for none.
    #[inline]
    pub(crate) fn listed(&self) -> u32 {
        u32::try_from(self.number >> WALK_SHIFT).unwrap_or(0)
    }

    /// Remembers what lookups have learned. Of two lookups at once, one may be forgotten, or a part
    /// of each: that order was seen holds whatever the cookie is.
    #[inline]
    pub(crate) fn set_near(&self, dir: &Inode<Composefs>) {
        let next = usize::try_from(self.near.next).unwrap_or(0) & COOKIE;
        dir.hint().set(next | (self.number & !COOKIE));
        if self.near.ordered != self.ordered {
            dir.data().number.store(self.near.ordered, Relaxed);
        }
    }

    /// Remembers that the directory is listed in a walk.
    pub(crate) fn set_listed(&self, dir: &Inode<Composefs>, walk: u32) {
        let walk = usize::try_from(walk).unwrap_or(0) << WALK_SHIFT;
        let number = (self.number & COOKIE) | walk;
        if number != self.number {
            dir.hint().set(number);
        }
    }
}

/// Where an inode was found.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    /// Number of the directory's inode, 0 if it is not known.
    pub(crate) directory: u64,
    /// Number of the directory's block that its entry is in, counted from 1; 0 if it is not known.
    pub(crate) block: u32,
}

impl Place {
    /// `block` is counted from 0.
    #[inline]
    pub(crate) fn new(directory: u64, block: u64) -> Self {
        Self {
            directory,
            block: u32::try_from(block.saturating_add(1)).unwrap_or(0),
        }
    }
}

/// Where the inode, which is no directory itself, was found.
///
/// These are the numbers of all others: a file that was opened by a handle has no name to tell its
/// directory, and is to have a handle again, the same one.
pub(crate) fn place_of(inode: &Inode<Composefs>) -> Place {
    Place {
        directory: u64::try_from(inode.hint().get()).unwrap_or(0),
        block: inode.data().number.load(Relaxed),
    }
}

/// What rules out most of the xattrs that the inode lacks. It is read once: programs ask every
/// file for the same few, and most have none of them.
///
/// # Errors
///
/// Those of [`Image::xattr_filter`](image::Image::xattr_filter).
pub(crate) fn xattr_filter(inode: &Inode<Composefs>) -> Result<XattrFilter, image::Error<Error>> {
    let kept = &inode.data().xattr_filter;
    // A filter that rules out nothing looks like none; such ones are rare.
    let known = XattrFilter(kept.load(Relaxed));
    if known != XattrFilter::default() {
        return Ok(known);
    }
    let image = inode.super_block().data().image();
    let filter = image.xattr_filter(&node(inode))?;
    kept.store(filter.0, Relaxed);
    Ok(filter)
}

/// Finds or reads the inode `nid`, which was found at `place`. `None` if it is a whiteout, which
/// nobody is to see.
///
/// # Errors
///
/// `EUCLEAN` if it is damaged, else what keeps it from being read.
pub(crate) fn get(
    sb: &SuperBlock<Composefs>,
    nid: u64,
    place: Place,
) -> Result<Option<ARef<Inode<Composefs>>>> {
    match sb.iget(nid)? {
        Iget::Cached(inode) => Ok(Some(inode)),
        Iget::New(new) => match read(sb.data(), new, nid, place) {
            Ok(inode) => Ok(inode),
            Err(image::Error::Source(e)) => Err(e),
            Err(image::Error::Corrupt(corrupt)) => {
                fault::warn_corrupt(sb.data(), nid, corrupt);
                sb.report_corruption();
                Err(efscorrupted())
            }
        },
    }
}

/// Reads the inode `nid` from the image.
fn read(
    mounted: &Mounted,
    mut new: NewInode<Composefs>,
    nid: u64,
    place: Place,
) -> Result<Option<ARef<Inode<Composefs>>>, image::Error<Error>> {
    let image = mounted.image();
    let inode = image.inode(nid)?;
    if inode.is_whiteout() {
        return Ok(None);
    }
    new.data_mut().form = inode.node.form();
    let file_type = inode.file_type();
    let attributes = Attributes {
        mode: inode.mode,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        size: inode.size,
        mtime: inode.mtime,
        mtime_nsec: inode.mtime_nsec,
        no_acl: !mounted.has_acl() || !inode.node.has_xattrs(),
        // See `DirUse` and `place_of`.
        hint: match file_type {
            FileType::Directory => 0,
            _ => usize::try_from(place.directory).unwrap_or(0),
        },
    };
    if file_type != FileType::Directory {
        new.data_mut().number = Atomic::new(place.block);
    }
    let target;
    let kind = match file_type {
        FileType::Directory => Kind::Directory,
        FileType::Regular => Kind::Regular,
        FileType::Symlink => {
            target = read_whole(mounted, &inode.node, LINK_MAX)?;
            if target.contains(&0) {
                return Err(image::Error::Corrupt(image::Corrupt {
                    what: "symlink target has a NUL",
                    at: nid.saturating_mul(32),
                }));
            }
            Kind::Symlink(&target)
        }
        _ => Kind::Special(inode.rdev),
    };
    new.init(&attributes, kind)
        .map(Some)
        .map_err(image::Error::Source)
}

/// Reads all data of an inode that has at most `max` bytes of them in the image.
///
/// # Errors
///
/// [`image::Error::Corrupt`] if they are not in the image or have another length.
pub(crate) fn read_whole(
    mounted: &Mounted,
    node: &Node,
    max: usize,
) -> Result<KVec<u8>, image::Error<Error>> {
    let corrupt = |what| {
        image::Error::Corrupt(image::Corrupt {
            what,
            at: node.nid().saturating_mul(32),
        })
    };
    let size = usize::try_from(node.size())
        .ok()
        .filter(|size| *size <= max);
    let size = size.ok_or_else(|| corrupt("data in the image are too large"))?;
    let data = KVec::zeroed(size, GFP_KERNEL_ACCOUNT);
    let mut data = data.map_err(|e| image::Error::Source(e.into()))?;
    if mounted.image().read(node, 0, &mut data)? != size {
        return Err(corrupt("data in the image are cut off"));
    }
    Ok(data)
}
