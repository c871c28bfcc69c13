// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Changing the flags of a mounted image.

use std::path::Path;

use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::StatVfsMountFlags;
use rustix::fs::fstatfs;
use rustix::fs::openat;
use rustix::fs::statvfs;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::mount::mount_remount;

use crate::error::Error;
use crate::error::Result;
use crate::fs_context::FsContext;
use crate::location::Location;
use crate::location::escaped;
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
                set_basedir(&context, basedir)?;
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
        let flags = flags | kept_atime(target, flags)?;
        let done = match mount_remount(target, flags, c"") {
            // overlayfs without an upper directory. As on composefs, only the mount is writable.
            Err(Errno::ROFS) => mount_remount(target, flags | MountFlags::BIND, c""),
            done => done,
        };
        done.map_err(|errno| Error::FileSystem {
            doing: "remounting".to_owned(),
            errno,
            messages: Vec::new(),
        })
    }
}

/// Names a base directory that the mount should have. The directory itself is compared, or its
/// name if it is no longer there.
fn set_basedir(context: &FsContext, location: &Location<'_>) -> Result<()> {
    match (Directory::open("basedir", location), location.path()) {
        (Ok(directory), _) => context.set_fd("basedir", &directory.file),
        (Err(error), Some(path)) if error.errno() == Errno::NOENT => context
            .set_string("basedir", escaped(path, b":\\"))
            .map_err(|_| error),
        (Err(error), _) => Err(error),
    }
}

/// What a mount has of flags about access times, if none of `flags` is about them. mount(2) keeps
/// it only if there is no `nodiratime` either.
fn kept_atime(target: &Path, flags: MountFlags) -> Result<MountFlags> {
    let atime = MountFlags::NOATIME | MountFlags::RELATIME | MountFlags::STRICTATIME;
    if flags.intersects(atime) {
        return Ok(MountFlags::empty());
    }
    let stat = statvfs(target).map_err(|errno| of_target(target, errno))?;
    Ok(if stat.f_flag.contains(StatVfsMountFlags::NOATIME) {
        MountFlags::NOATIME
    } else if stat.f_flag.contains(StatVfsMountFlags::RELATIME) {
        MountFlags::RELATIME
    } else {
        MountFlags::STRICTATIME
    })
}

/// Whether composefs is mounted at `target`.
fn is_native(target: &Path) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let stat = openat(CWD, target, flags, Mode::empty()).and_then(fstatfs);
    let stat = stat.map_err(|errno| of_target(target, errno))?;
    Ok(u64::try_from(stat.f_type) == Ok(MAGIC))
}

fn of_target(target: &Path, errno: Errno) -> Error {
    Error::Target {
        target: target.display().to_string(),
        errno,
    }
}
