// SPDX-License-Identifier: GPL-2.0

//! Walking a tree with few instructions outside of the kernel.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use anyhow::Result;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use rustix::fs::openat;
use rustix::fs::statat;

/// Bytes in a getdents64(2) of the C library's readdir(3).
const BUFFER: usize = 32 << 10;

/// What [`walk`] does with each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Nothing.
    Name,
    /// lstat(2).
    Attributes,
}

/// Walks the tree below a directory. Returns the number of entries, without the
/// directory itself.
pub fn walk(root: impl AsFd, visit: Visit) -> Result<u64> {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let root = open(root.as_fd(), c".")?;
    level(root.as_fd(), visit, &mut buffer)
}

fn level(dir: BorrowedFd<'_>, visit: Visit, buffer: &mut [MaybeUninit<u8>]) -> Result<u64> {
    let mut count = 0;
    let mut below = Vec::new();
    let mut entries = RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        count += 1;
        if visit == Visit::Attributes {
            statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if entry.file_type() == FileType::Directory {
            below.push(name.to_owned());
        }
    }
    for name in below {
        count += level(open(dir, &name)?.as_fd(), visit, buffer)?;
    }
    Ok(count)
}

fn open(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// The paths of all regular files below a directory, in the order of readdir.
pub fn files(root: impl AsFd) -> Result<Vec<CString>> {
    let mut found = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut dirs = vec![c".".to_owned()];
    while let Some(path) = dirs.pop() {
        let dir = open(root.as_fd(), &path)?;
        let mut entries = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match entry.file_type() {
                FileType::Directory => dirs.push(join(&path, name)?),
                FileType::RegularFile => found.push(join(&path, name)?),
                _ => {}
            }
        }
    }
    Ok(found)
}

fn join(dir: &std::ffi::CStr, name: &std::ffi::CStr) -> Result<CString> {
    if dir == c"." {
        return Ok(name.to_owned());
    }
    Ok(CString::new([dir.to_bytes(), name.to_bytes()].join(&b'/'))?)
}
