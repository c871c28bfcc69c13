// SPDX-License-Identifier: GPL-2.0

//! What the first pass finds in a mount, and all later passes must find again.

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

/// Bytes of content in a checksum.
pub const BLOCK: usize = 4096;

/// Longest path that the first pass follows.
const PATH_MAX: usize = 3500;

/// How much of an image is checked.
pub struct Limits {
    /// Largest number of inodes.
    pub inodes: usize,
    /// Largest number of bytes of content.
    pub content: u64,
}

/// The attributes of a file that do not change.
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
    /// Absolute path.
    pub path: CString,
    /// Its attributes.
    pub facts: Facts,
    /// Checksum of its extended attributes.
    pub xattrs: u64,
    /// Target of a symbolic link.
    pub link: Option<CString>,
    /// Checksums of the blocks of a regular file, if its content was read.
    pub sums: Option<Vec<u64>>,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub name: CString,
    pub ino: u64,
    pub kind: FileType,
    /// Offset to seek to, to read this entry.
    pub cookie: u64,
}

/// A directory.
pub struct Directory {
    pub path: CString,
    /// Its entries, in the order of getdents64(2).
    pub names: Vec<Name>,
}

/// Everything that the first pass found in a mount.
#[derive(Default)]
pub struct Catalogue {
    pub entries: Vec<Entry>,
    pub directories: Vec<Directory>,
    /// Indexes of the entries that are symbolic links.
    pub links: Vec<usize>,
    /// Indexes of the entries that have checksums.
    pub files: Vec<usize>,
    bytes: u64,
}

impl Catalogue {
    /// Reads the tree below `root`, breadth first.
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
                    .with_context(|| format!("first pass: {below:?}"))?;
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
            "{} inodes, {} directories listed, {} files read ({} KiB)",
            self.entries.len(),
            self.directories.len(),
            self.files.len(),
            self.bytes >> 10
        )
    }
}

/// Opens a file for reading.
pub fn open(path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::CLOEXEC | flags, Mode::empty())
}

fn join(dir: &CStr, name: &CStr) -> Result<CString> {
    Ok(CString::new(
        [dir.to_bytes(), b"/", name.to_bytes()].concat(),
    )?)
}

/// All entries of a directory.
pub fn list(path: &CStr) -> Result<Vec<Name>, Errno> {
    let dir = open(path, OFlags::DIRECTORY)?;
    names_from(&dir, 0, usize::MAX)
}

/// Up to `most` entries of an open directory, from its file position on, which is
/// `cookie`.
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

/// A checksum of the names and values of all extended attributes.
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

/// A checksum of each block of a file.
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

/// Reads from `pos` on until `block` is full or the file ends. Returns the number of
/// bytes.
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
