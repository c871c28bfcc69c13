// SPDX-License-Identifier: GPL-2.0

//! Walking a mount.

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

/// Largest number of entries to check in an image.
const ENTRIES_MAX: u32 = 60;
/// Number of unchanged entries to check in a directory.
const OTHERS: usize = 4;
/// Largest depth of a directory.
const DEPTH_MAX: usize = 24;
/// How often the same directory is read: an image may have it below itself.
const VISITS_MAX: u32 = 3;
/// Largest number of open directories.
const OPEN_MAX: usize = 100;

/// Results of a walk.
#[derive(Debug, Default)]
pub struct Seen {
    /// Number of entries that were checked.
    pub entries: u32,
    /// Number of expected errors because of damage.
    pub damage: u32,
}

impl Seen {
    /// Counts an error of content. Only EUCLEAN is damage of the image: EIO may be a missing
    /// object.
    pub fn fail(&mut self, error: Errno) {
        self.damage += u32::from(error == Errno::UCLEAN);
    }
}

/// A directory to read.
struct Directory {
    fd: OwnedFd,
    inode: DiskInode,
    depth: usize,
}

/// Walks a mount from its root, and compares it with the image.
///
/// # Errors
///
/// When they differ.
pub fn walk(root: OwnedFd, expected: &Expected<'_>) -> Result<Seen> {
    let mut seen = Seen::default();
    let Ok(inode) = expected.root() else {
        bail!("the image is mounted, but its root inode is damaged");
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

/// Chooses names to check: those that lead to a change, some others, and an absent one.
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

/// Looks up a name. Returns its inode, or `None` if it cannot be used.
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
        // A directory that is below itself, or in two places.
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
            "directory {nid}, name {name:?}: statx returns {:?}, the image has {wanted:?}",
            stat.map(|stat| stat.stx_ino)
        ),
    }
}

/// Checks a file, according to its type. Returns a directory, opened.
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
            // The xattrs of a file can be read even if its content cannot.
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
            "inode {}: open returns {fd:?}, the image has {content:?}",
            inode.layout.nid()
        ),
    }
}
