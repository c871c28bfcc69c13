// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Changing the flags of a mounted image.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::StatVfsMountFlags;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;
use rustix::fs::fstatfs;
use rustix::fs::openat;
use rustix::fs::statvfs;
use rustix::fs::statx;
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
use crate::stack;

/// `f_type` of composefs, and of overlayfs: `OVERLAYFS_SUPER_MAGIC` of `linux/magic.h`.
const MAGIC: u64 = 0xd078_629a;
const OVERLAY_MAGIC: u64 = 0x794c_7630;

impl MountOptions<'_> {
    /// Changes the flags of the image that is mounted at `target`, as `mount -o remount` does.
    ///
    /// The options that the mount has may be given again, but not changed. On composefs the kernel
    /// compares them; those of a stack are not compared. A directory is the same if it has the name
    /// that the mount table shows, whatever it leads to by now, or if it is the same directory. So
    /// is the image if [`source`](Self::source) was called; otherwise it is not looked at.
    ///
    /// # Errors
    ///
    /// That an option differs, that nothing or another file system is mounted at `target`, or
    /// what the file system refuses.
    pub fn remount(&self, target: &Path, flags: MountFlags) -> Result<()> {
        check_mounted(target)?;
        if is_native(target)? {
            match self.reconfigure(target, By::Name) {
                // A name may be spelled in another way, or be too long for fsconfig(2).
                Err(error) if error.errno() == Errno::INVAL => {
                    self.reconfigure(target, By::Descriptor)?;
                }
                done => done?,
            }
        } else {
            stack::refuse_signatures(self)?;
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

    /// Has composefs compare the options.
    fn reconfigure(&self, target: &Path, by: By) -> Result<()> {
        let context = FsContext::pick(native::NAME, target)?;
        if self.source.is_some() {
            by.set(&context, "image", &self.image, || self.open_image())?;
        }
        for basedir in &self.basedirs {
            by.set(&context, "basedir", basedir, || {
                Directory::open("basedir", basedir).map(|directory| directory.file)
            })?;
        }
        if let Some(signature) = &self.signature {
            by.set(&context, "signature", signature, || {
                self.open_signature()?
                    .ok_or(Error::Options("signature: names no file"))
            })?;
        }
        if self.signed {
            context.set_flag("signed")?;
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
        context.reconfigure()
    }
}

/// How files and directories are told to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// By the name, if there is one.
    Name,
    /// As an open file, or by the name if it does not exist.
    Descriptor,
}

impl By {
    /// Sets an option that names a file or a directory, which `open` opens.
    fn set<F: AsFd>(
        self,
        context: &FsContext,
        key: &str,
        location: &Location<'_>,
        open: impl FnOnce() -> Result<F>,
    ) -> Result<()> {
        let name = location.path().map(|path| escaped(path, b":\\"));
        match (self, name) {
            (Self::Name, Some(name)) => context.set_string(key, name),
            (_, name) => match (open(), name) {
                (Ok(file), _) => context.set_fd(key, file),
                (Err(error), Some(name)) if error.errno() == Errno::NOENT => {
                    context.set_string(key, name).map_err(|_| error)
                }
                (Err(error), _) => Err(error),
            },
        }
    }
}

/// Checks that something is mounted at `target`. The kernel says no more than `EINVAL`.
fn check_mounted(target: &Path) -> Result<()> {
    let stat = statx(CWD, target, AtFlags::empty(), StatxFlags::empty());
    let stat = stat.map_err(|errno| of_target(target, errno))?;
    let root = StatxAttributes::MOUNT_ROOT;
    // Linux before 5.8 does not tell.
    match stat.stx_attributes_mask.contains(root) && !stat.stx_attributes.contains(root) {
        true => Err(Error::FileSystem {
            doing: format!("nothing is mounted on {}", target.display()),
            errno: Errno::INVAL,
            messages: Vec::new(),
        }),
        false => Ok(()),
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

/// Whether composefs is mounted at `target`, or else overlayfs.
fn is_native(target: &Path) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let stat = openat(CWD, target, flags, Mode::empty()).and_then(fstatfs);
    let stat = stat.map_err(|errno| of_target(target, errno))?;
    match u64::try_from(stat.f_type) {
        Ok(MAGIC) => Ok(true),
        Ok(OVERLAY_MAGIC) => Ok(false),
        _ => Err(Error::FileSystem {
            doing: format!(
                "neither composefs nor overlayfs is mounted on {}",
                target.display()
            ),
            errno: Errno::INVAL,
            messages: Vec::new(),
        }),
    }
}

fn of_target(target: &Path, errno: Errno) -> Error {
    Error::Target {
        target: target.display().to_string(),
        errno,
    }
}
