// SPDX-License-Identifier: GPL-2.0 OR MIT

//! overlayfs over the image: over erofs for the objects, or over composefs for an upper directory.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::mount::open_tree;

use crate::error::Result;
use crate::fs_context::FsContext;
use crate::location::escaped;
use crate::location::proc_path;
use crate::options::Verity;
use crate::prepared::Directory;
use crate::prepared::Prepared;
use crate::stack::legacy;
use crate::stack::temporary::TemporaryMount;

/// The source of an overlayfs whose image has no path that can be one. libcomposefs has the same.
const SOURCE: &str = "composefs";

/// Longest string that fsconfig(2) takes.
const STRING_MAX: usize = 255;

/// Mounts overlayfs over composefs, which has verified what it returns.
pub(crate) fn over_native(prepared: &Prepared<'_>, native: BorrowedFd<'_>) -> Result<OwnedFd> {
    by_fd(prepared, native, &[], None)
}

/// Mounts overlayfs over erofs, with the base directories for the objects.
pub(super) fn over_erofs(prepared: &Prepared<'_>, erofs: BorrowedFd<'_>) -> Result<OwnedFd> {
    let verity = match prepared.verity {
        Verity::Off => None,
        Verity::On => Some("on"),
        Verity::Required | Verity::Try => Some("require"),
    };
    if takes_detached_mounts(erofs) {
        return by_fd(prepared, erofs, &prepared.basedirs, verity);
    }
    let lower = TemporaryMount::new(erofs, prepared.options.temporary_mount_point)?;
    match by_path(prepared, &lower, verity)? {
        Some(mount) => Ok(mount),
        None => legacy::mount(prepared, lower.path(), verity),
    }
}

/// Whether overlayfs takes a mount that is attached nowhere. Linux 6.15 allowed it together with
/// the cloning of such mounts, which can be tried without any effect.
fn takes_detached_mounts(mount: BorrowedFd<'_>) -> bool {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(mount, "", flags).is_ok()
}

/// Passes all directories as file descriptors.
fn by_fd(
    prepared: &Prepared<'_>,
    lower: BorrowedFd<'_>,
    data: &[Directory<'_>],
    verity: Option<&str>,
) -> Result<OwnedFd> {
    let context = begin(prepared, verity)?;
    context.set_fd("lowerdir+", lower)?;
    for directory in data {
        context.set_fd("datadir+", &directory.file)?;
    }
    if let Some((upper, work)) = &prepared.upper {
        context.set_fd("upperdir", &upper.file)?;
        context.set_fd("workdir", &work.file)?;
    }
    finish(prepared, &context)
}

/// Passes all directories as paths. Returns `None` before Linux 6.8, which does not have the
/// options for it.
fn by_path(
    prepared: &Prepared<'_>,
    lower: &TemporaryMount,
    verity: Option<&str>,
) -> Result<Option<OwnedFd>> {
    let context = FsContext::require("overlay")?;
    // Before Linux 6.5, any option is taken until the mount is made.
    if context.set_string("nosuchoption", "").is_ok() {
        return Ok(None);
    }
    match context.set_string("lowerdir+", lower.path()) {
        Err(error) if error.errno() == Errno::INVAL => return Ok(None),
        done => done?,
    }
    for directory in &prepared.basedirs {
        match context.set_string("datadir+", string(directory, b"")) {
            Err(error) if error.errno() == Errno::INVAL => return Ok(None),
            done => done?,
        }
    }
    configure(prepared, &context, verity)?;
    if let Some((upper, work)) = &prepared.upper {
        // Of these strings, and no others, overlayfs removes backslashes.
        context.set_string("upperdir", string(upper, b"\\"))?;
        context.set_string("workdir", string(work, b"\\"))?;
    }
    finish(prepared, &context).map(Some)
}

fn begin(prepared: &Prepared<'_>, verity: Option<&str>) -> Result<FsContext> {
    let context = FsContext::require("overlay")?;
    configure(prepared, &context, verity)?;
    Ok(context)
}

/// Sets all options but the directories.
fn configure(prepared: &Prepared<'_>, context: &FsContext, verity: Option<&str>) -> Result<()> {
    context.set_string("source", source(prepared))?;
    context.set_string("metacopy", "on")?;
    context.set_string("redirect_dir", "on")?;
    if let Some(verity) = verity {
        match context.set_string("verity", verity) {
            // An overlayfs without the option.
            Err(error) if error.errno() == Errno::INVAL && prepared.verity == Verity::Try => {}
            done => done?,
        }
    }
    for (name, value) in &prepared.options.common {
        context.set(name, value.as_deref())?;
    }
    Ok(())
}

fn finish(prepared: &Prepared<'_>, context: &FsContext) -> Result<OwnedFd> {
    context.create()?;
    context.mount(prepared.options.attributes)
}

/// The source of the mount: what the caller has set, or else the path of the image, as on composefs.
/// mount(8) then sees that the image is mounted.
pub(super) fn source(prepared: &Prepared<'_>) -> OsString {
    if let Some(label) = &prepared.options.source {
        return label.clone();
    }
    match std::fs::read_link(proc_path(&prepared.image)) {
        Ok(path) if path.as_os_str().len() <= STRING_MAX => path.into_os_string(),
        _ => SOURCE.into(),
    }
}

/// The path of a directory, as fsconfig(2) takes it, with a backslash before each byte of `special`.
fn string(directory: &Directory<'_>, special: &[u8]) -> OsString {
    let path = directory.location.path();
    match path.map(|path| escaped(path, special)) {
        Some(path) if path.len() <= STRING_MAX => path,
        _ => proc_path(&directory.file).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Location;

    #[test]
    fn a_directory_is_a_string_that_fsconfig_takes() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (odd, long) = (made(r"a\b"), made(&"\\".repeat(STRING_MAX / 2)));
        let open = |path| Directory::open("upperdir", &Location::Path(path)).unwrap();
        let directory = open(&odd);
        assert_eq!(string(&directory, b""), odd);
        let name = string(&directory, b"\\");
        assert_eq!(name, dir.path().join(r"a\\b"));
        let directory = open(&long);
        assert_eq!(string(&directory, b""), long);
        assert_eq!(string(&directory, b"\\"), proc_path(&directory.file));
    }
}
