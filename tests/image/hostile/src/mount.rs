// SPDX-License-Identifier: GPL-2.0

//! Mounting an image from memory.

use std::fs;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use rustix::fs::CWD;
use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::memfd_create;
use rustix::fs::openat;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::fsconfig_create;
use rustix::mount::fsconfig_set_fd;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsmount;
use rustix::mount::fsopen;
use rustix::mount::move_mount;
use rustix::mount::unmount;

use crate::operation::Operation;
use crate::operation::perform;

/// Directory of the mount points.
const TOP: &str = "/run/hostile";

/// The object directories and the mount point of a thread.
pub struct Mounter {
    basedirs: Vec<PathBuf>,
    target: PathBuf,
}

/// A mounted image, unmounted when dropped.
pub struct Mounted {
    root: Option<OwnedFd>,
    attached: Option<PathBuf>,
}

impl Mounter {
    /// Creates the mount point of a thread.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub fn new(basedirs: &[PathBuf], thread: usize) -> Result<Self> {
        let target = Path::new(TOP).join(thread.to_string());
        fs::create_dir_all(&target)?;
        Ok(Self {
            basedirs: basedirs.to_vec(),
            target,
        })
    }

    /// Mounts an image. Bit 0 of `way` turns verification on, bit 1 attaches the mount to a
    /// path.
    ///
    /// The image is in a memfd.
    ///
    /// # Errors
    ///
    /// The error of the system call that failed.
    pub fn mount(&self, bytes: &[u8], way: u64) -> Result<Mounted, Errno> {
        let image = File::from(memfd_create("image", MemfdFlags::CLOEXEC)?);
        image
            .write_all_at(bytes, 0)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let mut mounted = Mounted {
            root: Some(perform(Operation::Mount, || {
                self.detached(&image, way & 1 != 0)
            })?),
            attached: None,
        };
        if way & 2 != 0 {
            mounted.attach(&self.target)?;
        }
        Ok(mounted)
    }

    fn detached(&self, image: &File, verity: bool) -> Result<OwnedFd, Errno> {
        let context = fsopen("composefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_fd(&context, "source", image)?;
        for dir in &self.basedirs {
            fsconfig_set_string(&context, "basedir", dir)?;
        }
        if !verity {
            fsconfig_set_flag(&context, "noverity")?;
        }
        fsconfig_create(&context)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        fsmount(&context, flags, MountAttrFlags::empty())
    }
}

impl Mounted {
    /// Opens the root directory.
    ///
    /// # Errors
    ///
    /// The error of openat(2).
    pub fn root(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match (&self.root, &self.attached) {
            (Some(root), _) => openat(root, ".", flags, Mode::empty()),
            (None, Some(target)) => openat(CWD, target, flags, Mode::empty()),
            (None, None) => Err(Errno::NOENT),
        }
    }

    fn attach(&mut self, target: &Path) -> Result<(), Errno> {
        if let Some(root) = self.root.take() {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            perform(Operation::Attach, || {
                move_mount(&root, "", CWD, target, flags)
            })?;
            self.attached = Some(target.to_owned());
        }
        Ok(())
    }

    /// Unmounts the image.
    ///
    /// # Errors
    ///
    /// EBUSY if the mount is still in use.
    pub fn unmount(mut self) -> Result<(), Errno> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Errno> {
        let attached = self.attached.take();
        let root = self.root.take();
        if attached.is_none() && root.is_none() {
            return Ok(());
        }
        perform(Operation::Unmount, || {
            drop(root);
            match attached {
                Some(target) => unmount(target, UnmountFlags::empty()),
                None => Ok(()),
            }
        })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Only unmount() reports an error.
        let _ = self.end();
    }
}
