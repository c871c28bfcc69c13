// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The mount that was made.

use std::fmt;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::statat;
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;
use rustix::mount::move_mount;

use crate::error::Error;
use crate::error::Result;

/// A mount that is attached nowhere yet. Dropping it unmounts it.
#[derive(Debug)]
#[must_use = "a mount that is not attached is unmounted when it is dropped"]
pub struct Mounted {
    fd: OwnedFd,
    kind: Kind,
}

/// How an image was mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By the file system composefs, with overlayfs on top of it if there is an upper directory.
    Native,
    /// As a stack of erofs and overlayfs.
    Stack(WhyStack),
}

/// Why an image was mounted as a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyStack {
    /// The kernel has no file system composefs, and could not load it.
    NoFileSystem,
    /// The caller asked for it, by [`Prefer::Stack`](crate::Prefer::Stack).
    Preferred,
}

impl Mounted {
    pub(crate) fn new(fd: OwnedFd, kind: Kind) -> Self {
        Self { fd, kind }
    }

    /// How the image was mounted.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The file descriptor of the mount.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Attaches the mount to a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Target`]. Nothing stays mounted.
    pub fn attach(self, target: &Path) -> Result<()> {
        self.attach_at(CWD, target)
    }

    /// As [`attach`](Self::attach), with a path that is relative to a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Target`]. Nothing stays mounted.
    pub fn attach_at(self, directory: impl AsFd, target: &Path) -> Result<()> {
        // As mount(2): the target may be a symbolic link.
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        let moved = move_mount(&self.fd, "", &directory, target, flags);
        moved.map_err(|errno| Error::Target {
            target: target.display().to_string(),
            // As mount(2) says it.
            errno: match errno {
                Errno::INVAL if !is_directory(&directory, target) => Errno::NOTDIR,
                errno => errno,
            },
        })
    }
}

fn is_directory(directory: impl AsFd, path: &Path) -> bool {
    let stat = statat(directory, path, AtFlags::empty());
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
}

impl AsFd for Mounted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => write!(f, "native"),
            Self::Stack(why) => write!(f, "erofs + overlayfs: {why}"),
        }
    }
}

impl fmt::Display for WhyStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFileSystem => write!(f, "the kernel has no file system composefs"),
            Self::Preferred => write!(f, "asked for"),
        }
    }
}
