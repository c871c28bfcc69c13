// SPDX-License-Identifier: GPL-2.0

//! The results that system calls must have on an image, computed with the parser.

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
use composefs_image::overlay::Escapes;
use composefs_image_mutate::Touched;
use rustix::fs::Statx;
use rustix::io::Errno;

use crate::parser::Memory;
use crate::parser::sure;

/// `DEFAULT_OVERFLOWUID`, which stat(2) shows for an invalid owner, -1.
const OVERFLOW_ID: u32 = 65534;

/// `XATTR_LIST_MAX`: the longest list of xattrs, in bytes.
const LIST_MAX: usize = 65536;

/// An entry of a directory: name and inode number.
pub type Entry = (Vec<u8>, u64);

/// An image, as the kernel must show it.
pub struct Expected<'a> {
    /// The image.
    pub image: Image<Memory<'a>>,
    /// The inodes that were changed.
    pub touched: Touched,
    /// Number of the image, which selects some unchanged files to check.
    pub number: usize,
}

impl Expected<'_> {
    /// The root directory.
    pub fn root(&self) -> Result<DiskInode, Corrupt> {
        sure(self.image.inode(self.image.superblock().root_nid))
    }

    /// The inode of a name. `None` for an absent name and for a whiteout.
    pub fn lookup(&self, dir: &InodeLayout, name: &[u8]) -> Result<Option<DiskInode>, Corrupt> {
        let Some(found) = sure(self.image.lookup(dir, name))? else {
            return Ok(None);
        };
        self.inode(found.nid)
    }

    /// The inode of this number. `None` for a whiteout.
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

    /// At most `most` entries of a directory, and the error behind them, if any.
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

    /// The place of a regular file's content.
    pub fn content(&self, layout: &InodeLayout) -> Result<Content, Corrupt> {
        sure(self.image.content(layout))
    }

    /// All data of an inode, which are in the image.
    pub fn data(&self, inode: &DiskInode) -> Result<Vec<u8>, Corrupt> {
        let mut data = vec![0; inode.size as usize];
        let len = sure(self.image.read(&inode.layout, 0, &mut data))?;
        data.truncate(len);
        Ok(data)
    }

    /// Whether the permission check may fail with this error: if the mode alone denies the
    /// access, the kernel reads the ACL, which may be damaged. It does not read it for the
    /// owner, and this program is root.
    pub fn may_refuse(&self, inode: &DiskInode, error: Errno) -> bool {
        if inode.uid == 0 || !self.has_acl() {
            return false;
        }
        let index = overlay::INDEX_POSIX_ACL_ACCESS;
        match self.stored_xattr(inode, index, b"") {
            Err(_) => error == Errno::UCLEAN,
            // The errors of posix_acl_from_xattr() and posix_acl_permission().
            Ok(Some(_)) => matches!(error, Errno::INVAL | Errno::OPNOTSUPP | Errno::IO),
            Ok(None) => false,
        }
    }

    /// Whether the kernel reads ACLs of this image.
    fn has_acl(&self) -> bool {
        let superblock = self.image.superblock();
        superblock.has_acl || superblock.composefs_version == 2
    }

    /// The result of listxattr(2).
    pub fn xattr_list(&self, layout: &InodeLayout) -> Result<Vec<u8>, Errno> {
        let acl = self.has_acl();
        let mut list = Vec::new();
        let result = self.image.xattrs(layout, |xattr| {
            let hidden = !acl
                && matches!(
                    xattr.index,
                    overlay::INDEX_POSIX_ACL_ACCESS | overlay::INDEX_POSIX_ACL_DEFAULT
                );
            let name = overlay::visible(xattr.index, xattr.name, Escapes::Removed);
            if let Some(name) = name.filter(|_| !hidden) {
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

    /// The result of getxattr(2). `None` for ACLs and capabilities, which the kernel
    /// converts.
    pub fn xattr(&self, inode: &DiskInode, name: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
        // A name in an image may be too long when its prefix is added.
        if name.len() > NAME_LEN {
            return Some(Err(Errno::RANGE));
        }
        let mut buffer = [0; NAME_LEN];
        let (index, stored) = if let Some(name) = name.strip_prefix(b"user.") {
            // xattr_permission() refuses `user.` xattrs for other types.
            let kind = inode.file_type();
            if !matches!(
                kind,
                FileType::Regular | FileType::Directory | FileType::Socket
            ) {
                return Some(Err(Errno::NODATA));
            }
            (overlay::INDEX_USER, name)
        } else if let Some(name) = name.strip_prefix(b"trusted.") {
            match overlay::stored_trusted(name, Escapes::Removed, &mut buffer) {
                Some(name) => (overlay::INDEX_TRUSTED, name),
                None => return Some(Err(Errno::NODATA)),
            }
        } else {
            match name.strip_prefix(b"security.") {
                Some(b"capability") | None => return None,
                Some(name) => (overlay::INDEX_SECURITY, name),
            }
        };
        Some(match self.stored_xattr(inode, index, stored) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Errno::NODATA),
            Err(_) => Err(Errno::UCLEAN),
        })
    }

    /// The value of an xattr, by its index and name in the image.
    fn stored_xattr(
        &self,
        inode: &DiskInode,
        index: u8,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, Corrupt> {
        let Some(found) = sure(self.image.find_xattr(&inode.layout, index, name))? else {
            return Ok(None);
        };
        let mut value = vec![0; found.len];
        sure(self.image.read_xattr(found, &mut value))?;
        Ok(Some(value))
    }
}

/// Whether an owner of an inode is invalid, so that CAP_DAC_OVERRIDE does not apply.
pub fn is_unowned(inode: &DiskInode) -> bool {
    inode.uid == u32::MAX || inode.gid == u32::MAX
}

/// Compares the result of statx(2) with an inode.
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
