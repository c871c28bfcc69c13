// SPDX-License-Identifier: GPL-2.0

//! The rows that measure time, with several processors and the image on a disk.

use std::thread;

use anyhow::Result;
use anyhow::anyhow;
use composefs_bench::Plan;
use composefs_bench::Stack;

use crate::caches;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::recorder::Recorder;
use crate::walk::Visit;
use crate::walk::walk;

/// Number of threads that walk at the same time.
const THREADS: u64 = 4;

/// A cold walk and a warm walk, by one thread and by four.
pub fn walks(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = Mounted::new(stack, &plan.stored_tree, Verity::Off)?;
    let walk = || walk(mounted.root(), Visit::Attributes);
    let at_once = || {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(walk)).collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow!("a thread panicked"))?
                    .map(drop)
            })
        })
    };
    caches::drop_all()?;
    let entries = recorder.time("cold-walk-time", walk)?;
    recorder.entries(entries);
    recorder.time("warm-walk-time", walk)?;
    recorder.time("4-warm-walks-time", at_once)?;
    caches::drop_all()?;
    recorder.time("4-cold-walks-time", at_once)
}
