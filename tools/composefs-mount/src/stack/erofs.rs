// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The image as erofs, from its file or by a loop device.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use composefs_ioctls::loop_device::loopify;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::error::Error;
use crate::error::Result;
use crate::fs_context::FsContext;
use crate::location::proc_path;
use crate::prepared::Prepared;

/// `LCFS_EROFS_MAGIC`, and the size of the header that it begins.
const MAGIC: u32 = 0xd078_629a;
const HEADER_SIZE: usize = 32;

/// Bit of the flags in the header: the image has access control lists.
const HAS_ACL: u32 = 1;

/// The first format whose header has no flag for access control lists.
const FORMAT_WITHOUT_FLAG: u32 = 2;

/// How often another process may be faster with the loop device that was free.
const TRIES: u32 = 16;

/// Mounts the image.
pub(super) fn mount(prepared: &Prepared<'_>) -> Result<OwnedFd> {
    let acl = has_acl(prepared)?;
    match mount_source(&prepared.image, acl) {
        // The kernel, or the file system that holds the image, cannot mount from a file.
        Err(error) if error.errno() == Errno::NOTBLK => {
            let device = loop_device(prepared)?;
            // The device goes away with the mount.
            mount_source(&device, acl)
        }
        done => done,
    }
}

/// Whether the image has access control lists. The header says so, as for libcomposefs.
fn has_acl(prepared: &Prepared<'_>) -> Result<bool> {
    let bad = |errno| Error::FileSystem {
        doing: format!("image {}: reading", prepared.options.image.name()),
        errno,
        messages: Vec::new(),
    };
    let mut header = [0; HEADER_SIZE];
    let read = rustix::io::pread(&prepared.image, &mut header, 0).map_err(bad)?;
    let mut numbers = header.chunks_exact(4);
    let mut next = || {
        let bytes = numbers.next().and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes)
    };
    let (magic, _version, flags, format) = (next(), next(), next(), next());
    match (magic, flags, format) {
        (Some(MAGIC), Some(flags), Some(format)) if read == HEADER_SIZE => {
            Ok(flags & HAS_ACL != 0 || format >= FORMAT_WITHOUT_FLAG)
        }
        _ => Err(Error::FileSystem {
            doing: "erofs".to_owned(),
            errno: Errno::INVAL,
            messages: vec![format!(
                "image {}: is not a composefs image",
                prepared.options.image.name()
            )],
        }),
    }
}

fn mount_source(source: impl AsFd, acl: bool) -> Result<OwnedFd> {
    let context = FsContext::require("erofs")?;
    context.set_string("source", proc_path(source))?;
    context.set_flag("ro")?;
    if !acl {
        context.set_flag("noacl")?;
    }
    context.create()?;
    context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)
}

fn loop_device(prepared: &Prepared<'_>) -> Result<OwnedFd> {
    let mut tries = 0;
    loop {
        let error = match loopify(&prepared.image) {
            Ok(device) => return Ok(device),
            Err(error) => error,
        };
        let errno = errno(&error);
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
