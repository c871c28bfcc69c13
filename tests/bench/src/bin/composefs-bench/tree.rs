// SPDX-License-Identifier: GPL-2.0

//! The rows about a large tree.

use std::ffi::CString;
use std::thread;

use anyhow::Result;
use anyhow::bail;
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

/// Number of random files for `cold-stat`.
const STATS: usize = 2000;

/// `sparse` looks up this many of [`RUN`] * 100 files that follow each other.
const RUN: usize = 20;

/// Number of threads for `herd-read`.
const THREADS: usize = 32;

/// Walks the tree, and measures the memory that a walk takes. The image is in memory:
/// the clock, which counts instructions, jumps over any wait for a disk.
pub fn walks(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = Mounted::new(stack, &plan.tree, Verity::Off)?;
    let paths = shuffled(files(mounted.root())?);
    let some = &paths[..STATS.min(paths.len())];

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

/// Counts the read requests of a cold walk to the disk that the image is on.
pub fn requests(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let disk = crate::disk::Disk::of(&plan.stored_tree.path)?;
    let mounted = Mounted::new(stack, &plan.stored_tree, Verity::Off)?;
    caches::drop_all()?;
    let before = disk.reads()?;
    recorder.entries(walk(mounted.root(), Visit::Attributes)?);
    recorder.note("requests", disk.reads()? - before);
    Ok(())
}

/// Measures what is read from the disk when 1 % of the files are looked up, by one
/// thread and by [`THREADS`] at the same time.
pub fn sparse(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let disk = crate::disk::Disk::of(&plan.stored_tree.path)?;
    let mount = || Mounted::new(stack, &plan.stored_tree, Verity::Off);
    // List the files in another mount: readdir makes composefs read more at once.
    let paths = files(mount()?.root())?;
    let mounted = mount()?;
    let some: Vec<&CString> = paths
        .chunks(RUN * 100)
        .flat_map(|chunk| chunk.iter().take(RUN))
        .collect();
    let root = mounted.root();
    let look = || -> Result<()> {
        for path in &some {
            statat(root, path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    };

    caches::drop_all()?;
    let before = disk.kib_read()?;
    look()?;
    recorder.note("sparse-read", disk.kib_read()? - before);

    caches::drop_all()?;
    let before = disk.kib_read()?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(look)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread has panicked"),
            })
    })?;
    recorder.note("herd-read", disk.kib_read()? - before);
    Ok(())
}
