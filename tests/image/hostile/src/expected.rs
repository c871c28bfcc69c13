// SPDX-License-Identifier: GPL-2.0

//! What the kernel has to say of an image, by the parser.

use std::ops::ControlFlow;

use anyhow::Result;
use anyhow::bail;
use composefs_image::Content;
use composefs_image::Corrupt;
use composefs_image::DiskInode;
use composefs_image::FileType;
use composefs_image::Image;
use composefs_image::InodeLayout;
use composefs_image::NAME_LEN;
use composefs_image::overlay;
use composefs_image_mutate::Touched;
use rustix::fs::Statx;
use rustix::io::Errno;

use crate::parser::Memory;
use crate::parser::sure;

/// What is shown in place of an owner that is no owner: -1.
const OVERFLOW_ID: u32 = 65534;

/// Most bytes that a list of xattrs has. The kernel's `XATTR_LIST_MAX`.
const LIST_MAX: usize = 65536;

/// An entry of a directory: its name and inode number.
pub type Entry = (Vec<u8>, u64);

/// An image, as the kernel has to show it.
pub struct Expected<'a> {
    /// The image.
    pub image: Image<Memory<'a>>,
    /// What of it was changed.
    pub touched: Touched,
    /// Decides what else is looked at.
    pub number: usize,
}

impl Expected<'_> {
    /// The root directory.
    pub fn root(&self) -> Result<DiskInode, Corrupt> {
        sure(self.image.inode(self.image.superblock().root_nid))
    }

    /// What a name leads to. None if there is nothing, or a whiteout.
    pub fn lookup(&self, dir: &InodeLayout, name: &[u8]) -> Result<Option<DiskInode>, Corrupt> {
        let Some(found) = sure(self.image.lookup(dir, name))? else {
            return Ok(None);
        };
        self.inode(found.nid)
    }

    /// The inode of this number. None if it is a whiteout.
    pub fn inode(&self, nid: u64) -> Result<Option<DiskInode>, Corrupt> {
        let inode = sure(self.image.inode(nid))?;
        if inode.is_whiteout() {
            return Ok(None);
        }
        if inode.file_type() == FileType::Symlink && self.data(&inode)?.contains(&0) {
            let what = "symlink target has a NUL";
            return Err(Corrupt { what, at: 0 });
        }
        Ok(Some(inode))
    }

    /// The entries of a directory, at most `most`, and whether there is damage
    /// behind them.
    pub fn entries(&self, dir: &InodeLayout, most: usize) -> (Vec<Entry>, Result<(), Corrupt>) {
        let mut entries = Vec::new();
        let mut pos = 0;
        let end = self.image.read_dir(dir, &mut pos, |dirent| {
            if entries.len() == most {
                return ControlFlow::Break(());
            }
            entries.push((dirent.name.to_vec(), dirent.nid));
            ControlFlow::Continue(())
        });
        (entries, sure(end))
    }

    /// Where a regular file's content is.
    pub fn content(&self, layout: &InodeLayout) -> Result<Content, Corrupt> {
        sure(self.image.content(layout))
    }

    /// All data of an inode that has them in the image.
    pub fn data(&self, inode: &DiskInode) -> Result<Vec<u8>, Corrupt> {
        let mut data = vec![0; inode.size as usize];
        let len = sure(self.image.read(&inode.layout, 0, &mut data))?;
        data.truncate(len);
        Ok(data)
    }

    /// Whether the kernel may give this error to who has no right to a file by
    /// its mode alone: then it asks the access control list, and that may be
    /// damaged. It does not ask that of an owner, who is root here.
    pub fn may_refuse(&self, inode: &DiskInode, error: Errno) -> bool {
        if inode.uid == 0 || !self.has_acl() {
            return false;
        }
        let index = overlay::INDEX_POSIX_ACL_ACCESS;
        let list = sure(self.image.find_xattr(&inode.layout, index, b""));
        let list = list.and_then(|found| {
            let Some(found) = found else {
                return Ok(None);
            };
            let mut value = vec![0; found.len];
            sure(self.image.read_xattr(found, &mut value)).map(|()| Some(value))
        });
        match list {
            Err(_) => error == Errno::UCLEAN,
            // What posix_acl_from_xattr() and posix_acl_permission() say of it.
            Ok(Some(_)) => matches!(error, Errno::INVAL | Errno::OPNOTSUPP | Errno::IO),
            Ok(None) => false,
        }
    }

    /// Whether access control lists count.
    fn has_acl(&self) -> bool {
        let superblock = self.image.superblock();
        superblock.has_acl || superblock.composefs_version == 2
    }

    /// The list of xattrs as listxattr(2) has it, or its error.
    pub fn xattr_list(&self, layout: &InodeLayout) -> Result<Vec<u8>, Errno> {
        let acl = self.has_acl();
        let mut list = Vec::new();
        let result = self.image.xattrs(layout, |xattr| {
            let hidden = !acl
                && matches!(
                    xattr.index,
                    overlay::INDEX_POSIX_ACL_ACCESS | overlay::INDEX_POSIX_ACL_DEFAULT
                );
            if let Some(name) = overlay::visible(xattr.index, xattr.name).filter(|_| !hidden) {
                list.extend(name.prefix.as_bytes());
                list.extend(name.name);
                list.push(0);
            }
            if list.len() > LIST_MAX {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        match sure(result) {
            Ok(()) if list.len() > LIST_MAX => Err(Errno::TOOBIG),
            Ok(()) => Ok(list),
            Err(_) => Err(Errno::UCLEAN),
        }
    }

    /// The value of an xattr, or the error of getxattr(2). None where the
    /// kernel itself makes something of the value.
    pub fn xattr(&self, inode: &DiskInode, name: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
        // An image may have names that are too long with their prefix.
        if name.len() > NAME_LEN {
            return Some(Err(Errno::RANGE));
        }
        let mut buffer = [0; NAME_LEN];
        let (index, stored) = if let Some(name) = name.strip_prefix(b"user.") {
            // The kernel does not look for those of others.
            let kind = inode.file_type();
            if !matches!(
                kind,
                FileType::Regular | FileType::Directory | FileType::Socket
            ) {
                return Some(Err(Errno::NODATA));
            }
            (overlay::INDEX_USER, name)
        } else if let Some(name) = name.strip_prefix(b"trusted.") {
            match overlay::stored_trusted(name, &mut buffer) {
                Some(name) => (overlay::INDEX_TRUSTED, name),
                None => return Some(Err(Errno::NODATA)),
            }
        } else {
            match name.strip_prefix(b"security.") {
                Some(b"capability") | None => return None,
                Some(name) => (overlay::INDEX_SECURITY, name),
            }
        };
        let found = sure(self.image.find_xattr(&inode.layout, index, stored));
        let value = found.and_then(|found| {
            let Some(found) = found else {
                return Ok(None);
            };
            let mut value = vec![0; found.len];
            sure(self.image.read_xattr(found, &mut value)).map(|()| Some(value))
        });
        Some(match value {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Errno::NODATA),
            Err(_) => Err(Errno::UCLEAN),
        })
    }
}

/// Whether an inode belongs to nobody at all: root has no rights to it then.
pub fn is_unowned(inode: &DiskInode) -> bool {
    inode.uid == u32::MAX || inode.gid == u32::MAX
}

/// Compares what statx(2) says with an inode.
///
/// # Errors
///
/// When they differ.
pub fn compare(inode: &DiskInode, stat: &Statx) -> Result<()> {
    let shown = |id| if id == u32::MAX { OVERFLOW_ID } else { id };
    let device = inode.rdev;
    let major = device >> 8 & 0xfff;
    let minor = device & 0xff | device >> 12 & 0xfff00;
    let expected = (
        inode.layout.nid(),
        u32::from(inode.mode),
        inode.nlink,
        (shown(inode.uid), shown(inode.gid)),
        inode.size,
        (inode.mtime, inode.mtime_nsec),
        (major, minor),
    );
    let seen = (
        stat.stx_ino,
        u32::from(stat.stx_mode),
        stat.stx_nlink,
        (stat.stx_uid, stat.stx_gid),
        stat.stx_size,
        (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        (stat.stx_rdev_major, stat.stx_rdev_minor),
    );
    if expected != seen {
        bail!("statx gives {seen:?}, the image has {expected:?}");
    }
    Ok(())
}
