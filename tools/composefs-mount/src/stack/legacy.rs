// SPDX-License-Identifier: GPL-2.0 OR MIT

//! overlayfs by mount(2), for kernels before 6.8. They take all layers in one string.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::mount::MountFlags;
use rustix::mount::OpenTreeFlags;
use rustix::mount::open_tree;

use crate::error::Error;
use crate::error::Result;
use crate::location::escaped;
use crate::location::proc_path;
use crate::options::Verity;
use crate::prepared::Directory;
use crate::prepared::Prepared;
use crate::stack::overlay::source;
use crate::stack::temporary::TemporaryMount;

/// What separates the image from a base directory. `::` since Linux 6.5: the layer is only for
/// objects. Before, its files were to be seen, but for those whose names the image hides.
const SEPARATORS: [&str; 2] = ["::", ":"];

/// Mount flags by attribute.
const FLAGS: [(MountAttrFlags, MountFlags); 8] = [
    (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
    (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
    (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
    (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
    (MountAttrFlags::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
    (
        MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        MountFlags::STRICTATIME,
    ),
    (
        MountAttrFlags::MOUNT_ATTR_NODIRATIME,
        MountFlags::NODIRATIME,
    ),
    (
        MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
        MountFlags::NOSYMFOLLOW,
    ),
];

/// Mount flags by option. fsconfig(2) takes these options, but mount(2) only as flags: `None` is
/// what mount(2) does without a flag.
const OPTIONS: [(&str, Option<MountFlags>); 10] = [
    ("async", None),
    ("dirsync", Some(MountFlags::DIRSYNC)),
    ("lazytime", Some(MountFlags::LAZYTIME)),
    ("mand", Some(MountFlags::PERMIT_MANDATORY_FILE_LOCKING)),
    ("nolazytime", None),
    ("nomand", None),
    ("ro", Some(MountFlags::RDONLY)),
    ("rw", None),
    ("silent", Some(MountFlags::SILENT)),
    ("sync", Some(MountFlags::SYNCHRONOUS)),
];

/// Mounts overlayfs over erofs, which is mounted at `lower`.
pub(super) fn mount(
    prepared: &Prepared<'_>,
    lower: &Path,
    verity: Option<&str>,
) -> Result<OwnedFd> {
    // A kernel of this age may not know the option, and there is no way to ask.
    let verity = verity.filter(|_| prepared.verity != Verity::Try);
    let flags = flags(&prepared.options.attributes, &prepared.options.common);
    for separator in SEPARATORS {
        let data = data(prepared, lower, separator, verity)?;
        let mut refused = None;
        let mounted = TemporaryMount::with(None, |path| {
            let done = rustix::mount::mount(source(prepared), path, "overlay", flags, &*data);
            done.inspect_err(|errno| refused = Some(*errno))
        });
        match mounted {
            Ok(mounted) => return detached(mounted.path()),
            Err(_) if refused == Some(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Err(failed(Errno::INVAL))
}

/// The flags of mount(2).
fn flags(attributes: &MountAttrFlags, common: &[(String, Option<String>)]) -> MountFlags {
    let by_attribute = FLAGS
        .iter()
        .filter(|(attribute, _)| attributes.contains(*attribute))
        .map(|(_, flag)| *flag);
    let by_option = common.iter().filter_map(|(name, _)| flag(name).flatten());
    by_attribute.chain(by_option).collect()
}

/// The flag for an option. `Some(None)` is an option that is no flag.
fn flag(name: &str) -> Option<Option<MountFlags>> {
    let found = OPTIONS.iter().find(|(option, _)| *option == name)?;
    Some(found.1)
}

/// The options of mount(2).
fn data(
    prepared: &Prepared<'_>,
    lower: &Path,
    separator: &str,
    verity: Option<&str>,
) -> Result<CString> {
    let mut data = b"metacopy=on,redirect_dir=on,lowerdir=".to_vec();
    data.extend_from_slice(escaped(lower, b",:\\").as_bytes());
    for basedir in &prepared.basedirs {
        data.extend_from_slice(separator.as_bytes());
        data.extend_from_slice(&path(basedir, b",:\\"));
    }
    if let Some((upper, work)) = &prepared.upper {
        for (option, directory) in [(",upperdir=", upper), (",workdir=", work)] {
            data.extend_from_slice(option.as_bytes());
            data.extend_from_slice(&path(directory, b",\\"));
        }
    }
    if let Some(verity) = verity {
        data.extend_from_slice(b",verity=");
        data.extend_from_slice(verity.as_bytes());
    }
    for (name, value) in &prepared.options.common {
        if flag(name).is_some() {
            continue;
        }
        data.push(b',');
        data.extend_from_slice(name.as_bytes());
        if let Some(value) = value {
            data.push(b'=');
            data.extend_from_slice(value.as_bytes());
        }
    }
    CString::new(data).map_err(|_| failed(Errno::INVAL))
}

/// The path of a directory with what is special escaped.
fn path(directory: &Directory<'_>, special: &[u8]) -> Vec<u8> {
    let path = match directory.location.path() {
        Some(path) => path.to_owned(),
        None => proc_path(&directory.file),
    };
    escaped(&path, special).as_bytes().to_vec()
}

/// A copy of the mount at `path` that is attached nowhere.
fn detached(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).map_err(failed)
}

fn failed(errno: Errno) -> Error {
    Error::FileSystem {
        doing: "overlay: mounting".to_owned(),
        errno,
        messages: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_and_options_become_flags() {
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let common = ["sync", "async", "context"].map(|name| (name.to_owned(), None));
        let expected = MountFlags::NODEV | MountFlags::RDONLY | MountFlags::SYNCHRONOUS;
        assert_eq!(flags(&attributes, &common), expected);
        assert!(flag("context").is_none() && flag("async") == Some(None));
    }
}
