// SPDX-License-Identifier: GPL-2.0

//! Trying to change something in a mount: composefs refuses it, an overlayfs on top copies up.

use std::os::fd::OwnedFd;

use anyhow::Result;
use anyhow::bail;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::grammar::Op;
use crate::reference;
use crate::scene::Scene;
use crate::seeds;

/// Tries a change.
///
/// # Errors
///
/// When composefs takes it.
pub fn perform(scene: &Scene<'_>, op: &Op) -> Result<()> {
    let Some(root) = scene.root() else {
        return Ok(());
    };
    let path = seeds::paths().get(op.value(0) as usize);
    let done = change(root, path.map_or("/", String::as_str), op.word(1));
    // A symbolic link of a changed image may lead out of the mount.
    if done.is_ok() && scene.is_exact(scene.current) {
        bail!("a change is taken");
    }
    Ok(())
}

fn change(root: &OwnedFd, path: &str, what: &str) -> Result<(), Errno> {
    let path = reference::relative(path).map_err(|_| Errno::INVAL)?;
    let path = path.as_c_str();
    let mode = Mode::from_raw_mode(0o640);
    let open = |flags: OFlags| {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(root, path, flags, mode)
    };
    match what {
        "chmod" => rustix::fs::chmodat(root, path, mode, AtFlags::empty()),
        "chown" => {
            let owner = rustix::fs::Uid::from_raw(5);
            rustix::fs::chownat(root, path, Some(owner), None, AtFlags::SYMLINK_NOFOLLOW)
        }
        "unlink" => rustix::fs::unlinkat(root, path, AtFlags::empty()),
        "rmdir" => rustix::fs::unlinkat(root, path, AtFlags::REMOVEDIR),
        "mkdir" => rustix::fs::mkdirat(root, path, mode),
        "create" => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
            open(flags).map(drop)
        }
        "rename" => rustix::fs::renameat(root, path, root, c"new"),
        "exchange" => rustix::fs::renameat_with(root, path, root, c"small", RenameFlags::EXCHANGE),
        "link" => rustix::fs::linkat(root, path, root, c"new-link", AtFlags::empty()),
        "symlink" => rustix::fs::symlinkat(c"target", root, path),
        "setxattr" => {
            let file = open(OFlags::PATH | OFlags::NOFOLLOW)?;
            let path = reference::magic(&file);
            let flags = XattrFlags::empty();
            rustix::fs::setxattr(path.as_c_str(), c"trusted.new", b"1", flags)
        }
        "removexattr" => {
            let file = open(OFlags::PATH | OFlags::NOFOLLOW)?;
            let path = reference::magic(&file);
            rustix::fs::removexattr(path.as_c_str(), c"user.a")
        }
        "utimes" => {
            let now = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            let times = Timestamps {
                last_access: now,
                last_modification: now,
            };
            rustix::fs::utimensat(root, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        }
        _ => {
            let flags = match what {
                "append" => OFlags::WRONLY | OFlags::APPEND,
                _ => OFlags::RDWR,
            };
            let file = open(flags)?;
            if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode)
                != rustix::fs::FileType::RegularFile
            {
                return Err(Errno::INVAL);
            }
            match what {
                "truncate" => rustix::fs::ftruncate(&file, 10),
                _ => rustix::io::write(&file, b"new").map(drop),
            }
        }
    }
}
