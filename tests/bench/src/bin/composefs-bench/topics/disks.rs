// SPDX-License-Identifier: GPL-2.0

//! Small files that are read for the first time, from a disk.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Image;
use composefs_bench::Stack;
use composefs_bench::columns::STACKS;
use composefs_bench::topics::Plan;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::io::read;

use super::column::Column;
use super::store::KINDS;
use super::store::Kind;
use super::store::Store;
use crate::caches;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::prepare::enable_verity;
use crate::small;

/// Number of files.
const FILES: usize = 500;

/// Of so many, with nothing in memory, the first byte is read.
const FIRST: usize = 10;

/// Measures by file system.
pub fn measure(plan: &Plan) -> Result<()> {
    let content = plan.content.as_ref().context("the plan has no image")?;
    let stores = KINDS.iter().enumerate().map(|(number, kind)| {
        let store = Store::new(kind, number)?;
        let image = fill(content, &store, kind)?;
        Ok((store, image, kind))
    });
    let stores = stores.collect::<Result<Vec<_>>>()?;
    for (stack, title) in STACKS.iter().filter(|(stack, _)| plan.has(stack)) {
        let mut column = Column::new(plan, stack, title)?;
        for (store, image, kind) in &stores {
            let mut paths = small::paths(image, *stack)?;
            paths.truncate(FILES);
            column.repeat(|column| read_cold(image, *stack, kind, store, &paths, column))?;
        }
        column.report()?;
    }
    Ok(())
}

/// Copies the image and the objects of the small files.
fn fill(content: &Image, store: &Store, kind: &Kind) -> Result<Image> {
    let image = Image {
        path: store.top.join("content.cfs"),
        objects: store.top.join("objects"),
    };
    fs::copy(&content.path, &image.path)?;
    for object in small::paths(content, Stack::Ext4)? {
        let object = Path::new(OsStr::from_bytes(object.to_bytes()));
        let copy = image.objects.join(object);
        fs::create_dir_all(copy.parent().unwrap_or(&copy))?;
        fs::copy(content.objects.join(object), &copy)?;
        if kind.verity {
            enable_verity(&copy)?;
        }
    }
    rustix::fs::sync();
    Ok(image)
}

/// Reads files with nothing in memory.
fn read_cold(
    image: &Image,
    stack: Stack,
    kind: &Kind,
    store: &Store,
    paths: &[CString],
    column: &mut Column,
) -> Result<()> {
    let verity = match kind.verity {
        true => Verity::Required,
        false => Verity::Unverified,
    };
    let mounted = Mounted::new(stack, image, verity)?;
    let root = mounted.root();
    let mut buffer = vec![0; 64 << 10];
    let mut first = 0;
    let row = format!("{}: to the first byte of {FIRST} files", kind.name);
    for path in paths.iter().take(FIRST) {
        caches::drop_buffers()?;
        first += column
            .time(&row, || content(root, path, &mut buffer[..1]))?
            .1;
    }
    let disk = store.disk()?;
    caches::drop_buffers()?;
    let (reads, kib) = (disk.reads()?, disk.kib_read()?);
    let row = format!("{}: {} files", kind.name, paths.len());
    let ((), many) = column.time(&row, || {
        let mut paths = paths.iter();
        paths.try_for_each(|path| content(root, path, &mut buffer))
    })?;
    let mut note = |title: &str, total: u64, of: usize| {
        column.note(format!("{}: {title}", kind.name), total as f64 / of as f64);
    };
    note("requests a file", disk.reads()? - reads, paths.len());
    note("KiB read a file", disk.kib_read()? - kib, paths.len());
    note("µs to the first byte", first, FIRST * 1000);
    note("µs a file, of many", many, paths.len() * 1000);
    Ok(())
}

fn content(root: impl AsFd, path: &CStr, buffer: &mut [u8]) -> Result<()> {
    let file = openat(root, path, OFlags::RDONLY, Mode::empty())?;
    read(&file, buffer)?;
    Ok(())
}
