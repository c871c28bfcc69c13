// SPDX-License-Identifier: GPL-2.0

//! Reading contents in all ways.

use std::io::IoSliceMut;
use std::os::fd::AsFd as _;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rustix::fs::MemfdFlags;
use rustix::fs::memfd_create;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;
use rustix::pipe::SpliceFlags;

use crate::grammar::Kind;
use crate::grammar::Op;
use crate::scene::Scene;
use crate::scene::Slot;
use crate::scene::Want;
use crate::sys;
use crate::sys::Mapping;

/// The most bytes that are read at once.
const LENGTH_MAX: u32 = 65536;

/// What a page has, with which mappings begin.
const PAGE: u32 = 4096;

/// The part of a content from `pos` on.
fn part(content: &[u8], pos: u64, len: usize) -> &[u8] {
    let pos = usize::try_from(pos).unwrap_or(usize::MAX);
    let rest = content.get(pos..).unwrap_or_default();
    rest.get(..len).unwrap_or(rest)
}

/// Compares what was read at a position. `strict` is whether an error is wrong if there is
/// content.
fn check(
    scene: &Scene<'_>,
    slot: &Slot,
    pos: u64,
    len: usize,
    found: Result<&[u8], Errno>,
    strict: bool,
) -> Result<()> {
    let want = scene.want(slot.made, slot.path);
    let strict = strict && !slot.special;
    match (want, found) {
        (Want::Anything, _) | (_, Err(Errno::NOMEM)) => Ok(()),
        (Want::Exactly(content), Err(error)) => {
            ensure!(
                !strict || part(content, pos, len).is_empty(),
                "a good file cannot be read: {error}"
            );
            Ok(())
        }
        (Want::Exactly(content) | Want::IfAny(content), Ok(found)) => {
            let wanted = part(content, pos, len);
            if !wanted.starts_with(found) {
                bail!("wrong content at {pos}: {} bytes", found.len());
            }
            ensure!(
                !found.is_empty() || wanted.is_empty() || !strict,
                "no content at {pos}"
            );
            Ok(())
        }
        (Want::Error, Ok(found)) => {
            ensure!(found.is_empty(), "content that must not be read");
            Ok(())
        }
        (_, Err(_)) => Ok(()),
    }
}

/// preadv2(2)
///
/// # Errors
///
/// When the result is wrong.
pub fn read(scene: &Scene<'_>, slot: &Slot, op: &Op) -> Result<()> {
    let (pos, len) = (u64::from(op.value(1)), op.value(2).min(LENGTH_MAX) as usize);
    let flags = ReadWriteFlags::from_bits_retain(op.value(3));
    let mut first = vec![0; len / 3];
    let mut second = vec![0; len - len / 3];
    let mut parts = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    let done = if flags.is_empty() {
        rustix::io::preadv(&slot.fd, &mut parts, pos)
    } else {
        rustix::io::preadv2(&slot.fd, &mut parts, pos, flags)
    };
    first.extend_from_slice(&second);
    let found = done.map(|len| first.get(..len).unwrap_or_default());
    check(scene, slot, pos, len, found, flags.is_empty())
}

/// mmap(2), and the use of the pages.
///
/// # Errors
///
/// When the result is wrong.
pub fn map(scene: &Scene<'_>, slot: &Slot, op: &Op) -> Result<()> {
    let pos = u64::from(op.value(1) / PAGE * PAGE) % (1 << 21);
    let len = op.value(2).clamp(1, LENGTH_MAX) as usize;
    let read = libc::PROT_READ;
    let (prot, flags) = match op.word(3) {
        "private" => (read, libc::MAP_PRIVATE),
        "writable" => (read | libc::PROT_WRITE, libc::MAP_SHARED),
        "exec" => (read | libc::PROT_EXEC, libc::MAP_PRIVATE),
        "read-write" => (read | libc::PROT_WRITE, libc::MAP_PRIVATE),
        _ => (read, libc::MAP_SHARED),
    };
    let mapping = Mapping {
        prot,
        flags,
        populate: op.word(3) == "populate",
    };
    let out = memfd_create("copy", MemfdFlags::CLOEXEC)?;
    let copied = sys::map(slot.fd.as_fd(), pos, len, mapping, out.as_fd());
    if op.word(3) == "writable" && copied.is_ok() && scene.is_composefs(slot.made) {
        bail!("a file is mapped for writing");
    }
    let mut bytes = vec![0; *copied.as_ref().unwrap_or(&0)];
    let read = rustix::io::pread(&out, &mut bytes[..], 0)?;
    bytes.truncate(read);
    // Behind the end of the file, the last page has zeros.
    if let Want::Exactly(content) | Want::IfAny(content) = scene.want(slot.made, slot.path) {
        let wanted = part(content, pos, len).len();
        if let Some(zeros) = bytes.get(wanted..) {
            ensure!(
                zeros.iter().all(|byte| *byte == 0),
                "bytes behind the end of a file"
            );
            bytes.truncate(wanted);
        }
    }
    let found = copied.map(|_| &bytes[..]);
    // A file that was never open may have to wait: EAGAIN; or mmap(2) cannot look up the object.
    check(scene, slot, pos, len, found, false)
}

/// splice(2), sendfile(2) or copy_file_range(2).
///
/// # Errors
///
/// When the result is wrong.
pub fn pass_on(scene: &Scene<'_>, slot: &Slot, op: &Op) -> Result<()> {
    let (mut pos, len) = (u64::from(op.value(1)), op.value(2).min(LENGTH_MAX) as usize);
    let start = pos;
    let mut bytes = vec![0; len];
    let done = if op.kind == Kind::Splice {
        let (from, to) = rustix::pipe::pipe()?;
        let flags = SpliceFlags::NONBLOCK;
        let done = rustix::pipe::splice(&slot.fd, Some(&mut pos), &to, None, len, flags);
        drop(to);
        match done {
            Ok(0) => Ok(0),
            Ok(_) => rustix::io::read(&from, &mut bytes[..]),
            Err(error) => Err(error),
        }
    } else {
        let out = memfd_create("copy", MemfdFlags::CLOEXEC)?;
        let done = if op.word(3) == "range" {
            rustix::fs::copy_file_range(&slot.fd, Some(&mut pos), &out, None, len)
        } else {
            rustix::fs::sendfile(&out, &slot.fd, Some(&mut pos), len)
        };
        match done {
            Ok(_) => rustix::io::pread(&out, &mut bytes[..], 0),
            Err(error) => Err(error),
        }
    };
    let strict = op.kind == Kind::Splice || op.word(3) == "sendfile";
    let found = done.map(|len| bytes.get(..len).unwrap_or_default());
    check(scene, slot, start, len, found, strict && len > 0)
}

/// Checks a result of lseek(2).
///
/// # Errors
///
/// When it is wrong.
pub fn check_seek(
    scene: &Scene<'_>,
    slot: &Slot,
    op: &Op,
    found: Result<u64, Errno>,
) -> Result<()> {
    let Want::Exactly(content) = scene.want(slot.made, slot.path) else {
        return Ok(());
    };
    let (place, end) = (u64::from(op.value(1)), content.len() as u64);
    if slot.special {
        return Ok(());
    }
    match op.value(2) {
        // No file of the seeds has a hole before its end.
        0 if place < end => ensure!(found == Ok(place), "data are at {found:?}"),
        1 if place < end => ensure!(found == Ok(end), "a hole is at {found:?}"),
        0 | 1 => ensure!(found.is_err(), "behind the end, {found:?}"),
        _ => {}
    }
    Ok(())
}
