// SPDX-License-Identifier: GPL-2.0

//! The rows about large directories, and about trees of one shape and different
//! sizes.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::HUNDRED_THOUSAND;
use composefs_bench::Plan;
use composefs_bench::Stack;
use composefs_bench::TEN_THOUSAND;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::fs::statat;
use rustix::io::Errno;

use crate::caches;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::recorder::Recorder;
use crate::walk::Visit;
use crate::walk::walk;

/// Number of absent names to look up.
const ABSENT: u32 = 10_000;

/// Looks up absent names in a large directory, and lists a larger one.
pub fn directories(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = Mounted::new(stack, &plan.wide, Verity::Off)?;
    let open = |name| openat(mounted.root(), name, OFlags::DIRECTORY, Mode::empty());
    let names: Vec<String> = (0..ABSENT).map(|n| format!("absent-{n:05}")).collect();

    caches::drop_all()?;
    let dir = open(TEN_THOUSAND)?;
    recorder.time("absent", || {
        for name in &names {
            match statat(&dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                other => bail!("{name} is not absent: {other:?}"),
            }
        }
        Ok(())
    })?;

    caches::drop_all()?;
    let dir = open(HUNDRED_THOUSAND)?;
    recorder.time("wide-readdir", || walk(&dir, Visit::Name))?;
    Ok(())
}

/// Walks two cold trees, of 10 and of 1,000 directories. The values are for 1,000
/// entries.
pub fn million(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let images = plan
        .shape
        .as_ref()
        .context("the plan has no large images")?;
    for (row, image) in ["per-file-10k", "per-file-1m"].into_iter().zip(images) {
        let mounted = Mounted::new(stack, image, Verity::Off)?;
        caches::drop_all()?;
        let before = crate::clock::now();
        let entries = walk(mounted.root(), Visit::Attributes)?;
        let cost = crate::clock::now() - before;
        recorder.note(row, cost * 1000 / entries.max(1));
    }
    Ok(())
}
