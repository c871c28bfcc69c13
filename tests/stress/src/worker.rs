// SPDX-License-Identifier: GPL-2.0

//! A thread that checks the files of mounts again and again.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use fastrand::Rng;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

use crate::catalogue;
use crate::catalogue::BLOCK;
use crate::catalogue::Catalogue;
use crate::catalogue::Directory;
use crate::catalogue::Entry;
use crate::round::Operation;
use crate::round::Task;

/// A program of the Debian image that needs no input and prints nothing.
const PROGRAM: &[u8] = b"/usr/bin/true";

/// Performs one random operation after another.
pub fn work(task: &mut Task<'_>, mut random: Rng, all: &[Catalogue]) -> Result<()> {
    while task.has_time() {
        let found = random.choice(all).context("no catalogue")?;
        let directory = random.choice(&found.directories).context("no directory")?;
        let entry = random.choice(&found.entries).context("no entry")?;
        let which = |numbers: &[usize], random: &mut Rng| {
            let number = random.choice(numbers);
            number.and_then(|&number| found.entries.get(number))
        };
        match random.u32(0..1000) {
            0 => task.perform(Operation::Execute, || execute(found)),
            1..=50 => task.perform(Operation::List, || list(directory)),
            51..=200 => task.perform(Operation::Seek, || seek(directory, &mut random)),
            201..=450 => task.perform(Operation::Stat, || stat(entry)),
            451..=500 => task.perform(Operation::Absent, || absent(directory, &mut random)),
            501..=600 => task.perform(Operation::Link, || link(which(&found.links, &mut random))),
            601..=700 => task.perform(Operation::Xattr, || xattr(entry)),
            _ => {
                let file = which(&found.files, &mut random);
                task.perform(Operation::Read, || read(file, &mut random));
            }
        }
    }
    Ok(())
}

fn list(directory: &Directory) -> Result<()> {
    let path = &directory.path;
    let names = catalogue::list(path).with_context(|| format!("{path:?}"))?;
    ensure!(names == directory.names, "{path:?}: wrong entries");
    Ok(())
}

/// Seeks to three places in a directory and lists some entries from each.
fn seek(directory: &Directory, random: &mut Rng) -> Result<()> {
    let path = &directory.path;
    let context = || format!("{path:?}");
    let dir = catalogue::open(path, OFlags::DIRECTORY).with_context(context)?;
    for _ in 0..3 {
        let from = random.usize(..directory.names.len());
        let rest = directory.names.get(from..).unwrap_or_default();
        let cookie = rest.first().map_or(0, |name| name.cookie);
        let some = random.usize(1..20);
        rustix::fs::seek(&dir, SeekFrom::Start(cookie)).with_context(context)?;
        let names = catalogue::names_from(&dir, cookie, some).with_context(context)?;
        let expected = rest.get(..some).unwrap_or(rest);
        ensure!(
            names == expected,
            "{path:?}: wrong entries from cookie {cookie} on: {names:?}, not {expected:?}"
        );
    }
    Ok(())
}

fn stat(entry: &Entry) -> Result<()> {
    let path = &entry.path;
    let facts = catalogue::facts(path).with_context(|| format!("{path:?}"))?;
    ensure!(
        facts == entry.facts,
        "{path:?}: wrong attributes: {facts:?}, not {:?}",
        entry.facts
    );
    Ok(())
}

fn absent(directory: &Directory, random: &mut Rng) -> Result<()> {
    let mut path = directory.path.to_bytes().to_vec();
    path.extend_from_slice(format!("/no-{:x}", random.u16(..)).as_bytes());
    let result = rustix::fs::lstat(path.as_slice());
    ensure!(
        result.as_ref().err() == Some(&Errno::NOENT),
        "{:?}: looking up an absent name: {result:?}",
        directory.path
    );
    Ok(())
}

fn link(entry: Option<&Entry>) -> Result<()> {
    let Some(entry) = entry else { return Ok(()) };
    let path = &entry.path;
    let target = rustix::fs::readlink(path, Vec::new()).with_context(|| format!("{path:?}"))?;
    ensure!(
        Some(&target) == entry.link.as_ref(),
        "{path:?}: wrong target"
    );
    Ok(())
}

fn xattr(entry: &Entry) -> Result<()> {
    let path = &entry.path;
    let sum = catalogue::xattrs(path).with_context(|| format!("{path:?}"))?;
    ensure!(sum == entry.xattrs, "{path:?}: wrong xattrs");
    Ok(())
}

/// Reads a whole file, or some of its blocks, with or without O_DIRECT.
fn read(entry: Option<&Entry>, random: &mut Rng) -> Result<()> {
    let Some(entry) = entry else { return Ok(()) };
    let context = || format!("{:?}", entry.path);
    let sums = entry.sums.as_deref().unwrap_or_default();
    let file = catalogue::open(&entry.path, OFlags::empty()).with_context(context)?;
    if sums.is_empty() || random.u8(..) < 32 {
        let now = catalogue::sums(&file).with_context(context)?;
        ensure!(now == sums, "{:?}: wrong content", entry.path);
        return Ok(());
    }
    let direct = random.u8(..) < 16 && is_in_object(&entry.path);
    if direct {
        rustix::fs::fcntl_setfl(&file, OFlags::DIRECT).with_context(context)?;
    }
    // O_DIRECT needs an aligned buffer.
    let mut room = vec![0; 2 * BLOCK];
    let start = room.as_ptr().align_offset(BLOCK);
    let block = room.get_mut(start..start + BLOCK).context("no room")?;
    for _ in 0..random.usize(1..6) {
        let number = random.usize(..sums.len());
        let pos = (number * BLOCK) as u64;
        let len = catalogue::read_at(&file, block, pos).with_context(context)?;
        let sum = xxh3_64(block.get(..len).unwrap_or_default());
        ensure!(
            sums.get(number) == Some(&sum),
            "{:?}: wrong content in block {number} (O_DIRECT: {direct})",
            entry.path
        );
    }
    Ok(())
}

/// Whether a file's content is in an object: files in the image refuse O_DIRECT.
fn is_in_object(path: &CStr) -> bool {
    catalogue::open(path, OFlags::DIRECT).is_ok()
}

fn execute(found: &Catalogue) -> Result<()> {
    let program = found
        .entries
        .iter()
        .find(|entry| entry.path.to_bytes().ends_with(PROGRAM));
    let Some(program) = program else {
        return Ok(());
    };
    let path = std::ffi::OsStr::from_bytes(program.path.to_bytes());
    let done = Command::new(path).stdin(Stdio::null()).status();
    let status = done.with_context(|| format!("{path:?}"))?;
    ensure!(status.success(), "{path:?}: {status}");
    Ok(())
}
