// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Mounting by the file system composefs.

use composefs_ioctls::mount::mount_setattr_idmap;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::os::fd::AsFd;

use crate::error::Error;
use crate::error::Result;
use crate::fs_context::FsContext;
use crate::mounted::Kind;
use crate::mounted::Mounted;
use crate::options::Verity;
use crate::prepared::Prepared;
use crate::stack::overlay;

/// The type's name.
pub(crate) const NAME: &str = "composefs";

/// Mounts an image. Returns `None` if the kernel has no file system composefs.
pub(crate) fn mount(prepared: &Prepared<'_>) -> Result<Option<Mounted>> {
    let Some(context) = FsContext::open(NAME)? else {
        return Ok(None);
    };
    let options = prepared.options;
    match &options.source {
        Some(label) => {
            context.set_string("source", label.as_os_str())?;
            context.set_fd("image", &prepared.image)?;
        }
        None => context.set_fd("source", &prepared.image)?,
    }
    for basedir in &prepared.basedirs {
        context.set_fd("basedir", &basedir.file)?;
    }
    if let Some(signature) = &prepared.signature {
        context.set_fd("signature", signature)?;
    }
    if options.signed {
        context.set_flag("signed")?;
    }
    if let Some(digest) = options.digest {
        context.set_string("digest", digest.to_string())?;
    } else if options.pinned_by().is_none()
        && let Some(verity) = option(prepared.verity)
    {
        context.set_flag(verity)?;
    }
    if options.upper.is_some() {
        // The overlayfs on top shows the names as they are without it.
        context.set_flag("escaped")?;
    } else {
        for (name, value) in &options.common {
            context.set(name, value.as_deref())?;
        }
    }
    context.create()?;
    let attributes = match options.upper {
        Some(_) => MountAttrFlags::empty(),
        None => options.attributes,
    };
    let mut fd = context.mount(attributes)?;
    map_owners(prepared, &fd)?;
    if prepared.upper.is_some() {
        fd = overlay::over_native(prepared, fd.as_fd())?;
    }
    Ok(Some(Mounted::new(fd, Kind::Native)))
}

/// The option for a mode. [`Verity::On`] is the file system's default.
pub(crate) fn option(verity: Verity) -> Option<&'static str> {
    match verity {
        Verity::Off => Some("noverity"),
        Verity::On => None,
        Verity::Required | Verity::Try => Some("verity"),
    }
}

/// Maps the owners of the files of a new mount, if the options say so.
pub(crate) fn map_owners(prepared: &Prepared<'_>, mount: impl AsFd) -> Result<()> {
    let Some(namespace) = prepared.options.idmap else {
        return Ok(());
    };
    mount_setattr_idmap(mount, namespace).map_err(|error| Error::FileSystem {
        doing: "mapping the owners of files".to_owned(),
        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        messages: Vec::new(),
    })
}
