// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Changing the flags of a mounted image.

use std::path::Path;

use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::fstatfs;
use rustix::fs::openat;
use rustix::mount::MountFlags;
use rustix::mount::mount_remount;

use crate::error::Error;
use crate::error::Result;
use crate::fs_context::FsContext;
use crate::native;
use crate::options::MountOptions;
use crate::options::Verity;
use crate::prepared::Directory;

/// `f_type` of composefs.
const MAGIC: u64 = 0xd078_629a;

impl MountOptions<'_> {
    /// Changes the flags of the image that is mounted at `target`, as `mount -o remount` does.
    ///
    /// The options that the mount has may be given again, but not changed. On composefs the kernel
    /// compares them; those of a stack are not compared. The image itself is not looked at.
    ///
    /// # Errors
    ///
    /// That an option differs, or what the file system refuses.
    pub fn remount(&self, target: &Path, flags: MountFlags) -> Result<()> {
        if is_native(target)? {
            let context = FsContext::pick(native::NAME, target)?;
            for basedir in &self.basedirs {
                let basedir = Directory::open("basedir", basedir)?;
                context.set_fd("basedir", &basedir.file)?;
            }
            if let Some(digest) = self.digest {
                context.set_string("digest", digest.to_string())?;
            } else if let verity @ (Verity::Off | Verity::Required) = self.verity
                && let Some(option) = native::option(verity)
            {
                context.set_flag(option)?;
            }
            for (name, value) in &self.common {
                context.set(name, value.as_deref())?;
            }
            context.reconfigure()?;
        }
        mount_remount(target, flags, c"").map_err(|errno| Error::FileSystem {
            doing: "remounting".to_owned(),
            errno,
            messages: Vec::new(),
        })
    }
}

/// Whether composefs is mounted at `target`.
fn is_native(target: &Path) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let stat = openat(CWD, target, flags, Mode::empty()).and_then(fstatfs);
    let stat = stat.map_err(|errno| Error::Target {
        target: target.display().to_string(),
        errno,
    })?;
    Ok(u64::try_from(stat.f_type) == Ok(MAGIC))
}
