// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The image as erofs, from its file or by a loop device.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use composefs_ioctls::loop_device::loopify;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::fs::fstat;
use rustix::fs::openat;
use rustix::fs::stat;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::param::page_size;

use crate::error::Error;
use crate::error::Result;
use crate::fs_context::FsContext;
use crate::location::proc_path;
use crate::prepared::Prepared;

/// How often another process may be faster with the loop device that was free.
const TRIES: u32 = 16;

/// The size of an image's blocks.
const BLOCK: u64 = 4096;

/// Mounts the image.
pub(super) fn mount(prepared: &Prepared<'_>) -> Result<OwnedFd> {
    let acl = prepared.header.has_acl;
    if !ends_within_page(&prepared.image) {
        match mount_source(&prepared.image, acl) {
            // The kernel, or the file system that holds the image, cannot mount from a file.
            Err(error) if error.errno() == Errno::NOTBLK => (),
            done => return done,
        }
    }
    let device = loop_device(prepared)?;
    // The device goes away with the mount.
    mount_source(&device, acl)
}

/// Whether the file of the image has only a part of its last page. Where pages are larger than
/// blocks, erofs cannot read such a page from the file: the mount fails, or later what needs it.
fn ends_within_page(image: impl AsFd) -> bool {
    let pages = u64::try_from(page_size()).unwrap_or(BLOCK);
    fstat(image).is_ok_and(|stat| {
        u64::try_from(stat.st_size)
            .is_ok_and(|size| !size.next_multiple_of(BLOCK).is_multiple_of(pages))
    })
}

fn mount_source(source: impl AsFd, acl: bool) -> Result<OwnedFd> {
    let context = FsContext::require("erofs")?;
    context.set_string("source", path_of(source)?)?;
    context.set_flag("ro")?;
    if !acl {
        context.set_flag("noacl")?;
    }
    context.create()?;
    context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// The path of an open file, for erofs, which takes no file descriptor. In another mount
/// namespace, /proc may show another PID namespace, or may not be procfs at all.
fn path_of(file: impl AsFd) -> Result<PathBuf> {
    let path = proc_path(&file);
    let id = |stat: Stat| (stat.st_dev, stat.st_ino);
    let found = stat(&path).map(id);
    let own = fstat(&file).map(id);
    match (found, own) {
        (Ok(found), Ok(own)) if found == own => Ok(path),
        (found, own) => Err(Error::FileSystem {
            doing: "erofs: mounting: /proc does not have the open files of this process".to_owned(),
            errno: found.and(own).err().unwrap_or(Errno::STALE),
            messages: Vec::new(),
        }),
    }
}

/// A loop device of the image, open for reading. It goes away when nobody uses it.
fn loop_device(prepared: &Prepared<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut tries = 0;
    loop {
        let errno = match loopify(&prepared.image) {
            // A kernel may refuse to mount a device that is open for writing.
            Ok(device) => match openat(CWD, proc_path(&device), flags, Mode::empty()) {
                Ok(device) => return Ok(device),
                Err(errno) => errno,
            },
            Err(error) => errno(&error),
        };
        tries += 1;
        if errno != Errno::BUSY || tries >= TRIES {
            return Err(Error::FileSystem {
                doing: "making a loop device of the image".to_owned(),
                errno,
                messages: Vec::new(),
            });
        }
    }
}

/// The error number in an error of `loopify`, which wraps some of them.
fn errno(error: &std::io::Error) -> Errno {
    let wrapped = error.get_ref().and_then(|inner| inner.downcast_ref());
    Errno::from_io_error(error)
        .or(wrapped.copied())
        .unwrap_or(Errno::NODEV)
}
