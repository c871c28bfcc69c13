// SPDX-License-Identifier: GPL-2.0

//! Mounting with fsopen(2), fsconfig(2) and fsmount(2).

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::fsconfig_create;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsmount;
use rustix::mount::fsopen;
use rustix::mount::move_mount;
use rustix::mount::unmount;

use crate::fixtures::Image;

/// Directory of the mount points.
const TOP: &str = "/run/stress";

/// The options that an image is mounted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// None.
    Plain,
    /// `digest=`.
    Pinned,
    /// `noverity`.
    NoVerity,
}

impl Way {
    /// All ways.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Pinned, Self::NoVerity];
}

/// Mounts an image without attaching it to a path. Returns its root.
pub fn detached(image: &Image, way: Way) -> Result<OwnedFd, Errno> {
    let context = fsopen("composefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", &image.path)?;
    for dir in &image.objects {
        fsconfig_set_string(&context, "basedir", dir)?;
    }
    match way {
        Way::Plain => {}
        Way::Pinned => fsconfig_set_string(&context, "digest", &image.digest)?,
        Way::NoVerity => fsconfig_set_flag(&context, "noverity")?,
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

/// A mounted image, unmounted when dropped.
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// Mounts an image at a directory of this name.
    pub fn attach(image: &Image, name: &str) -> Result<Self> {
        Ok(Self::attach_as(image, Way::Plain, name)?)
    }

    /// As [`Mounted::attach`], with the options of `way`.
    pub fn attach_as(image: &Image, way: Way, name: &str) -> Result<Self, Errno> {
        let path = Path::new(TOP).join(name);
        fs::create_dir_all(&path)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let mount = detached(image, way)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", CWD, &path, flags)?;
        Ok(Self { path })
    }

    /// Path of the mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts with MNT_DETACH, which works while files are open.
    pub fn detach(self) -> Result<(), Errno> {
        unmount(&self.path, UnmountFlags::DETACH)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The image may be unmounted already. Module::check_nothing_left() reports a
        // mount that is left.
        let _ = unmount(&self.path, UnmountFlags::empty());
        let _ = fs::remove_dir(&self.path);
    }
}
