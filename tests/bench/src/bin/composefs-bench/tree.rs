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

/// How many files are looked at one by one.
const SOME: usize = 2000;

/// How many names in a row are looked up where few are.
const RUN: usize = 20;

/// How many do so at once.
const THREADS: usize = 32;

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

/// What is read of an image on a disk by those who need little of it: one who
/// looks 1 % of the names up, in some directories, and many who do so at once.
pub fn sparse(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let disk = crate::disk::Disk::of(&plan.stored_tree.path)?;
    let mount = || Mounted::new(stack, &plan.stored_tree, Verity::Off);
    // Of a mount of its own: what was listed may be read in another way.
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
                Err(_) => bail!("a thread that looks names up has panicked"),
            })
    })?;
    recorder.note("herd-read", disk.kib_read()? - before);
    Ok(())
}
