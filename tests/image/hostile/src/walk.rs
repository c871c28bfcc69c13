// SPDX-License-Identifier: GPL-2.0

//! A walk through a mount, however it is made.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;

use anyhow::Result;
use anyhow::bail;
use composefs_image::DiskInode;
use composefs_image::FileType;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::StatxFlags;
use rustix::fs::openat;
use rustix::fs::statx;
use rustix::io::Errno;

use crate::expected::Expected;
use crate::expected::compare;
use crate::expected::is_unowned;
use crate::operation::Operation;
use crate::operation::perform;
use crate::view;
use crate::xattrs;

/// Entries that are looked at in one image.
const ENTRIES_MAX: u32 = 60;
/// Entries of one directory that are looked at although nothing is known to be
/// wrong with them.
const OTHERS: usize = 4;
/// How deep it goes.
const DEPTH_MAX: usize = 24;
/// How often the same directory is read: an image may have it in itself.
const VISITS_MAX: u32 = 3;
/// Directories that are kept open.
const OPEN_MAX: usize = 100;

/// What came of it.
#[derive(Debug, Default)]
pub struct Seen {
    /// Entries that were looked at.
    pub entries: u32,
    /// Damage that was met: errors, and rightly so.
    pub damage: u32,
}

impl Seen {
    /// Counts an error of content. Where an object is not there, it is no damage
    /// of the image.
    pub fn fail(&mut self, error: Errno) {
        self.damage += u32::from(error == Errno::UCLEAN);
    }
}

/// A directory that is still to be read.
struct Directory {
    fd: OwnedFd,
    inode: DiskInode,
    depth: usize,
}

/// Goes through a mount from its root on, and compares it with what it has to
/// be.
///
/// # Errors
///
/// When it is something else.
pub fn walk(root: OwnedFd, expected: &Expected<'_>) -> Result<Seen> {
    let mut seen = Seen::default();
    let Ok(inode) = expected.root() else {
        bail!("the root cannot be read");
    };
    let stat = perform(Operation::Stat, || {
        statx(&root, ".", AtFlags::empty(), StatxFlags::BASIC_STATS)
    })?;
    compare(&inode, &stat)?;
    xattrs::of_file(&root, &inode, expected, &mut seen)?;
    let mut visits = HashMap::new();
    let mut todo = vec![Directory {
        fd: root,
        inode,
        depth: 0,
    }];
    while let Some(dir) = todo.pop() {
        let visit = visits.entry(dir.inode.layout.nid()).or_insert(0);
        *visit += 1;
        if *visit > VISITS_MAX {
            continue;
        }
        let names = view::directory(&dir.fd, &dir.inode, expected, &mut seen)?;
        for name in choose(&names, expected) {
            if matches!(name.as_bytes(), b"." | b"..") {
                continue;
            }
            if seen.entries >= ENTRIES_MAX {
                return Ok(seen);
            }
            seen.entries += 1;
            let Some(inode) = look_up(&dir, &name, expected, &mut seen)? else {
                continue;
            };
            let child = examine(&dir, &name, &inode, expected, &mut seen)?;
            let depth = dir.depth + 1;
            if let Some(fd) = child.filter(|_| depth < DEPTH_MAX && todo.len() < OPEN_MAX) {
                todo.push(Directory { fd, inode, depth });
            }
        }
    }
    Ok(seen)
}

/// Chooses names to look at: those that a change may be met behind, some others,
/// and one that is not there.
fn choose(names: &[(CString, u64)], expected: &Expected<'_>) -> Vec<CString> {
    let touched = &expected.touched;
    let (good, others): (Vec<_>, Vec<_>) = names
        .iter()
        .partition(|(_, nid)| touched.is_changed(*nid) || touched.is_above(*nid));
    let len = others.len().max(1);
    let others = (0..OTHERS.min(others.len()))
        .map(|turn| others[(expected.number + turn * (len / OTHERS).max(1)) % len]);
    good.into_iter()
        .take(ENTRIES_MAX as usize / 2)
        .chain(others)
        .map(|(name, _)| name.clone())
        .chain([c"no such name".into()])
        .collect()
}

/// Looks a name up. Gives its inode if there is one that can be used.
fn look_up(
    dir: &Directory,
    name: &CString,
    expected: &Expected<'_>,
    seen: &mut Seen,
) -> Result<Option<DiskInode>> {
    let stat = perform(Operation::Stat, || {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        statx(&dir.fd, name, flags, StatxFlags::BASIC_STATS)
    });
    let nid = dir.inode.layout.nid();
    let wanted = expected.lookup(&dir.inode.layout, name.as_bytes());
    match (wanted, stat) {
        (Ok(Some(inode)), Ok(stat)) => {
            compare(&inode, &stat)?;
            Ok(Some(inode))
        }
        // A directory that is above itself, or in two places at once.
        (Ok(Some(inode)), Err(Errno::LOOP | Errno::STALE))
            if inode.file_type() == FileType::Directory =>
        {
            seen.damage += 1;
            Ok(None)
        }
        (Ok(None), Err(Errno::NOENT)) => Ok(None),
        (Err(_), Err(Errno::UCLEAN)) => {
            seen.damage += 1;
            Ok(None)
        }
        (_, Err(Errno::ACCESS)) if is_unowned(&dir.inode) => Ok(None),
        (_, Err(error)) if expected.may_refuse(&dir.inode, error) => {
            seen.fail(error);
            Ok(None)
        }
        (wanted, stat) => bail!(
            "directory {nid}, name {name:?}: statx gives {:?}, the image has {wanted:?}",
            stat.map(|stat| stat.stx_ino)
        ),
    }
}

/// Uses a file as its type allows. Gives it back opened if it is a directory.
fn examine(
    dir: &Directory,
    name: &CString,
    inode: &DiskInode,
    expected: &Expected<'_>,
    seen: &mut Seen,
) -> Result<Option<OwnedFd>> {
    let open = |flags| {
        perform(Operation::Open, || {
            let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            openat(&dir.fd, name, flags, Mode::empty())
        })
    };
    let (fd, result) = match inode.file_type() {
        FileType::Directory => (open(OFlags::RDONLY | OFlags::DIRECTORY), None),
        FileType::Regular => {
            let fd = open(OFlags::RDONLY);
            (fd, Some(expected.content(&inode.layout)))
        }
        kind => {
            if kind == FileType::Symlink {
                view::link(&dir.fd, name, inode, expected)?;
            }
            let fd = open(OFlags::PATH)?;
            xattrs::of_path(&fd, inode, expected, seen)?;
            return Ok(None);
        }
    };
    match (fd, result) {
        (Ok(fd), None) => {
            xattrs::of_file(&fd, inode, expected, seen)?;
            Ok(Some(fd))
        }
        (Ok(fd), Some(Ok(content))) => {
            view::content(&fd, inode, content, expected, seen)?;
            xattrs::of_file(&fd, inode, expected, seen)?;
            Ok(None)
        }
        (Err(Errno::UCLEAN), Some(Err(_))) => {
            seen.damage += 1;
            // What cannot be read may have xattrs yet.
            let fd = open(OFlags::PATH)?;
            xattrs::of_path(&fd, inode, expected, seen)?;
            Ok(None)
        }
        (Err(error), Some(Ok(content))) if view::may_fail(content, error) => {
            seen.fail(error);
            Ok(None)
        }
        (Err(Errno::ACCESS), _) if is_unowned(inode) => Ok(None),
        (Err(error), _) if expected.may_refuse(inode, error) => {
            seen.fail(error);
            Ok(None)
        }
        (fd, content) => bail!(
            "inode {}: open gives {fd:?}, the image has {content:?}",
            inode.layout.nid()
        ),
    }
}
