// SPDX-License-Identifier: GPL-2.0

//! Listing directories.

use std::ffi::CString;

use anyhow::Result;
use anyhow::ensure;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::grammar::Op;
use crate::reference;
use crate::reference::Name;
use crate::scene::Scene;

/// The length of a buffer for entries.
pub fn buffer(choice: u32) -> usize {
    [24, 280, 1000, 8192]
        .get(choice as usize)
        .copied()
        .unwrap_or(8192)
}

/// Lists a directory, and some of it from an entry on: that has to be the same.
///
/// # Errors
///
/// When the result is wrong.
pub fn list(scene: &Scene<'_>, op: &Op) -> Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let Some(Ok(dir)) = scene.open_at(op.value(0), flags) else {
        return Ok(());
    };
    let (all, end) = reference::list(dir.try_clone()?, 2000, 8192);
    let made = scene.current;
    let exact = scene.is_exact(made);
    if exact {
        if let Err(error) = end {
            ensure!(error == Errno::NOMEM, "a directory cannot be read: {error}");
            return Ok(());
        }
        check(scene, op.value(0), &all)?;
    }
    let from = op.value(1) as usize % (all.len() + 1);
    let place = match from.checked_sub(1).and_then(|last| all.get(last)) {
        Some(last) => last.next,
        None => 0,
    };
    if rustix::fs::seek(&dir, SeekFrom::Start(place)).is_err() {
        ensure!(!exact, "a place in a directory is refused");
        return Ok(());
    }
    // Also with a buffer in which not every name has room.
    let (some, end) = reference::list(dir, op.value(2) as usize, buffer(op.value(3)));
    if !exact {
        return Ok(());
    }
    let rest = all.get(from..).unwrap_or_default();
    ensure!(
        rest.starts_with(&some),
        "entries differ after a seek: {:?} instead of {:?}",
        some.first(),
        rest.first()
    );
    let wanted = rest.len().min(op.value(2) as usize);
    let room = matches!(end, Err(Errno::INVAL | Errno::NOMEM));
    ensure!(
        some.len() == wanted || room,
        "{} entries after a seek instead of {wanted}",
        some.len()
    );
    for name in some.iter().take(3) {
        agrees(scene, op.value(0), name)?;
    }
    Ok(())
}

/// Compares all names of a directory with those that it must have.
fn check(scene: &Scene<'_>, path: u32, all: &[Name]) -> Result<()> {
    let Some(entry) = scene.entry(path) else {
        return Ok(());
    };
    let mut names: Vec<CString> = all.iter().map(|name| name.name.clone()).collect();
    names.retain(|name| !matches!(name.to_bytes(), b"." | b".."));
    names.sort();
    ensure!(
        names == entry.names,
        "{} names, and by erofs + overlayfs {}: {names:?}",
        names.len(),
        entry.names.len()
    );
    Ok(())
}

/// Compares an entry of a directory with the file itself.
fn agrees(scene: &Scene<'_>, path: u32, name: &Name) -> Result<()> {
    let Some(Ok(dir)) = scene.at(path) else {
        return Ok(());
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statat(&dir, name.name.as_c_str(), flags)?;
    ensure!(
        stat.st_ino == name.ino || name.name.as_bytes() == b"..",
        "{:?} is listed as inode {}, and is {}",
        name.name,
        name.ino,
        stat.st_ino
    );
    ensure!(
        FileType::from_raw_mode(stat.st_mode) == name.kind,
        "{:?} is listed as {:?}",
        name.name,
        name.kind
    );
    Ok(())
}
