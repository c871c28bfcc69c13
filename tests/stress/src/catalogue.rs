// SPDX-License-Identifier: GPL-2.0

//! What a first pass found in a mount, and what must be found again.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::ffi::CString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use rustix::fs::StatxFlags;
use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that one sum is made of.
pub const BLOCK: usize = 4096;

/// Longest path that is followed.
const PATH_MAX: usize = 3500;

/// How much is looked at.
pub struct Limits {
    /// Most inodes.
    pub inodes: usize,
    /// Most bytes of content.
    pub content: u64,
}

/// What statx(2) says of a file and does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    ino: u64,
    mode: u16,
    nlink: u32,
    uid: u32,
    gid: u32,
    size: u64,
    blocks: u64,
    mtime: (i64, u32),
    device: (u32, u32, u32, u32),
}

/// A file of any kind.
pub struct Entry {
    /// Where it is, from the root of all.
    pub path: CString,
    /// Its attributes.
    pub facts: Facts,
    /// A sum of its extended attributes.
    pub xattrs: u64,
    /// Target of a symbolic link.
    pub link: Option<CString>,
    /// A sum for each block of a regular file's content, if that was read.
    pub sums: Option<Vec<u64>>,
}

/// A directory's name, and where to seek to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub name: CString,
    pub ino: u64,
    pub kind: FileType,
    /// Cookie of the entry itself.
    pub cookie: u64,
}

/// A directory.
pub struct Directory {
    pub path: CString,
    /// In their order.
    pub names: Vec<Name>,
}

/// All that was found.
#[derive(Default)]
pub struct Catalogue {
    pub entries: Vec<Entry>,
    pub directories: Vec<Directory>,
    /// Which of the entries are symbolic links, and which have sums.
    pub links: Vec<usize>,
    pub files: Vec<usize>,
    bytes: u64,
}

impl Catalogue {
    /// Looks at what is mounted at `root`, breadth first.
    pub fn of(root: &Path, limits: &Limits) -> Result<Self> {
        let mut found = Self::default();
        let mut waiting = VecDeque::from([CString::new(root.as_os_str().as_bytes())?]);
        while let Some(path) = waiting.pop_front() {
            if found.entries.len() >= limits.inodes {
                break;
            }
            let names = list(&path).with_context(|| format!("list {path:?}"))?;
            for name in &names {
                let below = join(&path, &name.name)?;
                if matches!(name.name.to_bytes(), b"." | b"..") || below.count_bytes() > PATH_MAX {
                    continue;
                }
                found
                    .note(&below, limits)
                    .with_context(|| format!("first look at {below:?}"))?;
                if name.kind == FileType::Directory {
                    waiting.push_back(below);
                }
            }
            found.directories.push(Directory { path, names });
        }
        Ok(found)
    }

    fn note(&mut self, path: &CStr, limits: &Limits) -> Result<()> {
        let facts = facts(path)?;
        let kind = FileType::from_raw_mode(facts.mode.into());
        let number = self.entries.len();
        let mut entry = Entry {
            path: path.to_owned(),
            facts,
            xattrs: xattrs(path)?,
            link: None,
            sums: None,
        };
        if kind == FileType::Symlink {
            entry.link = Some(rustix::fs::readlink(path, Vec::new())?);
            self.links.push(number);
        } else if kind == FileType::RegularFile && self.bytes + facts.size <= limits.content {
            entry.sums = Some(sums(&open(path, OFlags::empty())?)?);
            self.files.push(number);
            self.bytes += facts.size;
        }
        self.entries.push(entry);
        Ok(())
    }
}

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} inodes, {} of them directories that were listed, {} files of {} KiB that were read",
            self.entries.len(),
            self.directories.len(),
            self.files.len(),
            self.bytes >> 10
        )
    }
}

/// Opens a file to read.
pub fn open(path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::CLOEXEC | flags, Mode::empty())
}

fn join(dir: &CStr, name: &CStr) -> Result<CString> {
    Ok(CString::new(
        [dir.to_bytes(), b"/", name.to_bytes()].concat(),
    )?)
}

/// All names in a directory.
pub fn list(path: &CStr) -> Result<Vec<Name>, Errno> {
    let dir = open(path, OFlags::DIRECTORY)?;
    names_from(&dir, 0, usize::MAX)
}

/// Up to `most` names of an open directory, from where it is on; `cookie` is
/// that place.
pub fn names_from(dir: &OwnedFd, mut cookie: u64, most: usize) -> Result<Vec<Name>, Errno> {
    let mut room = Vec::with_capacity(8192);
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir, room.spare_capacity_mut());
    while names.len() < most {
        let Some(entry) = entries.next() else { break };
        let entry = entry?;
        names.push(Name {
            name: entry.file_name().to_owned(),
            ino: entry.ino(),
            kind: entry.file_type(),
            cookie,
        });
        cookie = entry.next_entry_cookie();
    }
    Ok(names)
}

/// The attributes of a file.
pub fn facts(path: &CStr) -> Result<Facts, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(CWD, path, flags, StatxFlags::BASIC_STATS)?;
    Ok(Facts {
        ino: stat.stx_ino,
        mode: stat.stx_mode,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        device: (
            stat.stx_dev_major,
            stat.stx_dev_minor,
            stat.stx_rdev_major,
            stat.stx_rdev_minor,
        ),
    })
}

/// A sum of the names and values of all extended attributes.
pub fn xattrs(path: &CStr) -> Result<u64, Errno> {
    let mut names = Vec::with_capacity(1 << 16);
    rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut names))?;
    let mut all = names.clone();
    let mut value = Vec::with_capacity(1 << 16);
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::ILSEQ)?;
        value.clear();
        rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value))?;
        all.extend_from_slice(&value);
    }
    Ok(xxh3_64(&all))
}

/// A sum of each block of a file.
pub fn sums(file: &OwnedFd) -> Result<Vec<u64>, Errno> {
    let mut block = [0; BLOCK];
    let mut sums = Vec::new();
    loop {
        let pos = (sums.len() * BLOCK) as u64;
        let len = read_at(file, &mut block, pos)?;
        if len == 0 {
            return Ok(sums);
        }
        sums.push(xxh3_64(block.get(..len).unwrap_or_default()));
    }
}

/// Fills `block` from `pos` on, as far as the file goes.
pub fn read_at(file: &OwnedFd, block: &mut [u8], pos: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest @ [_, ..]) = block.get_mut(done..) {
        match rustix::io::pread(file, rest, pos + done as u64)? {
            0 => break,
            len => done += len,
        }
    }
    Ok(done)
}
