// SPDX-License-Identifier: GPL-2.0

//! Reading directories, symbolic links and regular files.

use std::ffi::CString;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use anyhow::Result;
use anyhow::bail;
use composefs_image::Content;
use composefs_image::DiskInode;
use rustix::fs::RawDir;
use rustix::fs::SeekFrom;
use rustix::fs::readlinkat;
use rustix::fs::seek;
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::io::pread;

use crate::expected::Expected;
use crate::operation::Operation;
use crate::operation::perform;
use crate::walk::Seen;

/// Largest number of entries to read from a directory.
const ENTRIES_MAX: usize = 1000;

/// Bytes in a read.
const READ: usize = 16384;

static NULL: LazyLock<Option<File>> =
    LazyLock::new(|| File::options().write(true).open("/dev/null").ok());

/// Reads a directory. Returns names and inode numbers.
pub fn directory(
    fd: &OwnedFd,
    inode: &DiskInode,
    expected: &Expected<'_>,
    seen: &mut Seen,
) -> Result<Vec<(CString, u64)>> {
    let (wanted, end) = expected.entries(&inode.layout, ENTRIES_MAX);
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut entries = RawDir::new(fd, &mut buffer);
    let mut names = Vec::new();
    let mut cookies = Vec::new();
    let mut error = None;
    while names.len() < ENTRIES_MAX {
        let next = if entries.is_buffer_empty() {
            perform(Operation::Getdents, || entries.next().transpose())
        } else {
            entries.next().transpose()
        };
        match next {
            Ok(Some(entry)) => {
                let (name, nid) = (entry.file_name().to_bytes(), entry.ino());
                match wanted.get(names.len()) {
                    Some(wanted) if (&wanted.0[..], wanted.1) == (name, nid) => {}
                    other => bail!(
                        "directory {}, entry {}: getdents returns {} of inode {nid}, the image has {other:?}",
                        inode.layout.nid(),
                        names.len(),
                        name.escape_ascii()
                    ),
                }
                cookies.push(entry.next_entry_cookie());
                names.push((entry.file_name().to_owned(), nid));
            }
            Ok(None) => break,
            Err(errno) => {
                error = Some(errno);
                break;
            }
        }
    }
    let good = match (&end, error) {
        (Ok(()), None) => names.len() == wanted.len(),
        (Err(_), Some(Errno::UCLEAN)) => {
            seen.damage += 1;
            names.len() == wanted.len()
        }
        // The damage is behind the entries that are read.
        (Err(_), None) => names.len() == ENTRIES_MAX,
        _ => false,
    };
    if !good {
        bail!(
            "directory {}: getdents ends after {} entries with {error:?}, the image has {} and {end:?}",
            inode.layout.nid(),
            names.len(),
            wanted.len()
        );
    }
    // Seek to some entries and read the next one.
    for number in [names.len() / 2, names.len().saturating_sub(2)] {
        let (Some(&cookie), Some(next)) = (
            cookies.get(number),
            names.get(number + 1).map(|entry| &entry.0),
        ) else {
            continue;
        };
        let found = perform(Operation::Seek, || {
            seek(fd, SeekFrom::Start(cookie))?;
            let mut entries = RawDir::new(fd, &mut buffer);
            let entry = entries.next().transpose()?;
            Ok(entry.map(|entry| entry.file_name().to_owned()))
        });
        if found.as_ref() != Ok(&Some(next.clone())) {
            bail!(
                "directory {}: the entry at {cookie} is {found:?}, not {next:?}",
                inode.layout.nid()
            );
        }
    }
    Ok(names)
}

/// Reads a symbolic link.
pub fn link(
    dir: &OwnedFd,
    name: &CString,
    inode: &DiskInode,
    expected: &Expected<'_>,
) -> Result<()> {
    let target = perform(Operation::Readlink, || {
        readlinkat(dir, name, Vec::with_capacity(4096))
    });
    match (target, expected.data(inode)) {
        (Ok(target), Ok(wanted)) if target.as_bytes() == wanted => Ok(()),
        (target, wanted) => bail!(
            "link {}: readlink returns {target:?}, the image has {wanted:?}",
            inode.layout.nid()
        ),
    }
}

/// Whether opening or reading a file may fail with this error: its object is missing, has
/// another size or digest than the image says, or the image has an invalid path for it.
pub fn may_fail(content: Content, error: Errno) -> bool {
    matches!(content, Content::External(_)) && matches!(error, Errno::IO | Errno::UCLEAN)
}

/// Reads a regular file: at its start, in the middle, at its end and behind the end.
pub fn content(
    fd: &OwnedFd,
    inode: &DiskInode,
    content: Content,
    expected: &Expected<'_>,
    seen: &mut Seen,
) -> Result<()> {
    let size = inode.size;
    let data = match content {
        Content::Inline => expected.data(inode).ok(),
        _ => None,
    };
    let mut buffer = vec![0xaa; READ];
    for pos in [0, size / 2, size.saturating_sub(7), size] {
        let read = perform(Operation::Read, || pread(fd, &mut buffer[..], pos));
        let len = match read {
            Ok(len) => len,
            Err(error) if may_fail(content, error) => {
                seen.fail(error);
                return Ok(());
            }
            Err(error) => bail!("inode {}: read at {pos}: {error}", inode.layout.nid()),
        };
        let most = (size - pos).min(READ as u64);
        let good = match (content, &data) {
            (Content::Inline, Some(data)) => data.get(pos as usize..) == Some(&buffer[..len]),
            (Content::Inline, None) => false,
            (Content::Sparse, _) => len as u64 == most && buffer[..len].iter().all(|&b| b == 0),
            (Content::External(_), _) => len as u64 <= most,
        };
        if !good {
            bail!(
                "inode {}: read at {pos} returns {len} bytes, or wrong bytes",
                inode.layout.nid()
            );
        }
    }
    if let Some(null) = &*NULL {
        let mut pos = 0;
        let sent = perform(Operation::Sendfile, || {
            sendfile(null, fd, Some(&mut pos), READ)
        });
        match sent {
            Ok(len) if len as u64 <= size => {}
            other => bail!("inode {}: sendfile returns {other:?}", inode.layout.nid()),
        }
    }
    Ok(())
}
