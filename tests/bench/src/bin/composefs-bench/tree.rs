// SPDX-License-Identifier: GPL-2.0

//! The rows about a large tree.

use anyhow::Result;
use composefs_bench::Plan;
use composefs_bench::Stack;
use rustix::fs::AtFlags;
use rustix::fs::statat;

use crate::caches;
use crate::memory::Memory;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::recorder::Recorder;
use crate::recorder::shuffled;
use crate::walk::Visit;
use crate::walk::files;
use crate::walk::walk;

/// How many files are looked at one by one.
const SOME: usize = 2000;

/// Walks, and what they leave in memory. The image is in memory: with
/// instructions counted, the clock jumps over waits for a disk.
pub fn walks(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = Mounted::new(stack, &plan.tree, Verity::Off)?;
    let paths = shuffled(files(mounted.root())?);
    let some = &paths[..SOME.min(paths.len())];

    caches::drop_all()?;
    let before = Memory::now()?;
    let entries = recorder.time("cold-walk", || walk(mounted.root(), Visit::Attributes))?;
    let after = Memory::now()?;
    recorder.entries(entries);
    recorder.note("slab", after.slab.saturating_sub(before.slab));
    recorder.note(
        "page-cache",
        after.page_cache.saturating_sub(before.page_cache),
    );
    recorder.note("free-memory", before.free.saturating_sub(after.free));

    recorder.time("warm-walk", || walk(mounted.root(), Visit::Attributes))?;

    caches::drop_names()?;
    recorder.time("readdir", || walk(mounted.root(), Visit::Name))?;

    caches::drop_all()?;
    recorder.time("cold-stat", || {
        for path in some {
            statat(mounted.root(), path, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    })
}

/// Requests to the disk that the image is on, in a cold walk.
pub fn requests(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let disk = crate::disk::Disk::of(&plan.stored_tree.path)?;
    let mounted = Mounted::new(stack, &plan.stored_tree, Verity::Off)?;
    caches::drop_all()?;
    let before = disk.reads()?;
    recorder.entries(walk(mounted.root(), Visit::Attributes)?);
    recorder.note("requests", disk.reads()? - before);
    Ok(())
}
