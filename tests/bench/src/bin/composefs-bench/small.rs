// SPDX-License-Identifier: GPL-2.0

//! The rows about the content of small files.

use std::ffi::CString;
use std::os::fd::AsFd;

use anyhow::Result;
use composefs_bench::Image;
use composefs_bench::Plan;
use composefs_bench::Stack;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::io::read;

use crate::caches;
use crate::memory::Memory;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::objects;
use crate::prepare::SMALL_DIR;
use crate::recorder::Recorder;
use crate::recorder::shuffled;
use crate::walk::files;

/// Opens the small files, with and without reading them. All content is in memory, and
/// verified.
pub fn reads(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let paths = paths(&plan.content, stack)?;
    let mounted = Mounted::new(stack, &plan.content, Verity::Required)?;
    let root = mounted.root();
    let mut buffer = vec![0; 64 << 10];
    // The second read of a page makes it active, which costs more than a later read.
    for _ in 0..2 {
        read_all(root, &paths, &mut buffer)?;
    }
    recorder.time("open-read", || read_all(root, &paths, &mut buffer))?;
    open_all(root, &paths)?;
    recorder.time("open", || open_all(root, &paths))
}

/// Measures the memory that is in use after the small files were opened and read twice, with
/// nothing of them in memory before. It has their content, which is the same on all stacks.
pub fn memory(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let paths = paths(&plan.content, stack)?;
    let mounted = Mounted::new(stack, &plan.content, Verity::Required)?;
    let mut buffer = vec![0; 64 << 10];
    // The first pass frees what keeps the rest in memory.
    caches::drop_all()?;
    caches::drop_all()?;
    caches::shrink_slabs()?;
    let before = Memory::now()?;
    for _ in 0..2 {
        read_all(mounted.root(), &paths, &mut buffer)?;
    }
    let after = Memory::now()?;
    recorder.note("read-memory", before.free.saturating_sub(after.free));
    recorder.note("read-slab", after.slab.saturating_sub(before.slab));
    Ok(())
}

/// Opens and reads files.
pub fn read_all(root: impl AsFd, paths: &[CString], buffer: &mut [u8]) -> Result<()> {
    for path in paths {
        let file = openat(&root, path, OFlags::RDONLY, Mode::empty())?;
        read(&file, &mut *buffer)?;
    }
    Ok(())
}

fn open_all(root: impl AsFd, paths: &[CString]) -> Result<()> {
    for path in paths {
        openat(&root, path, OFlags::RDONLY, Mode::empty())?;
    }
    Ok(())
}

/// The paths of the small files in the mount, or of their objects.
pub fn paths(image: &Image, stack: Stack) -> Result<Vec<CString>> {
    paths_below(image, stack, SMALL_DIR)
}

/// The paths of all files in the mount, or of their objects.
pub fn all_paths(image: &Image, stack: Stack) -> Result<Vec<CString>> {
    paths_below(image, stack, "")
}

fn paths_below(image: &Image, stack: Stack, dir: &str) -> Result<Vec<CString>> {
    let mounted = Mounted::new(Stack::Erofs, image, Verity::Off)?;
    let mut paths = shuffled(files(mounted.root())?);
    paths.retain(|path| path.to_bytes().starts_with(dir.as_bytes()));
    if stack == Stack::Ext4 {
        for path in &mut paths {
            *path = objects::name(mounted.path(), path)?;
        }
    }
    Ok(paths)
}
