// SPDX-License-Identifier: GPL-2.0

//! The rows about mounting.

use anyhow::Result;
use composefs_bench::Image;
use composefs_bench::Plan;
use composefs_bench::Stack;

use crate::caches;
use crate::memory::Memory;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::recorder::Recorder;
use crate::walk::Visit;
use crate::walk::walk;

/// Number of mounts of one image at the same time.
const MOUNTS: usize = 20;

/// Mounts a mounted image again and again, and walks each of the mounts.
pub fn same_image(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let image = &plan.stored_content;
    let mount = || Mounted::new(stack, image, Verity::Required);
    let first = mount()?;
    let mounts: Vec<Mounted> =
        recorder.time("20-mounts", || (0..MOUNTS).map(|_| mount()).collect())?;
    caches::drop_all()?;
    let before = Memory::now()?;
    for mounted in &mounts {
        walk(mounted.root(), Visit::Attributes)?;
    }
    let after = Memory::now()?;
    drop(first);
    recorder.note("20-mounts-memory", before.free.saturating_sub(after.free));
    Ok(())
}

/// Mounts images of different sizes.
pub fn sizes(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    mount(&plan.content, "mount-small", stack, recorder)?;
    mount(&plan.tree, "mount-middle", stack, recorder)?;
    mount(&plan.wide, "mount-large", stack, recorder)
}

fn mount(image: &Image, row: &'static str, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = recorder.time(row, || Mounted::new(stack, image, Verity::Off))?;
    drop(mounted);
    caches::settle();
    Ok(())
}
