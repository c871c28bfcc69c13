// SPDX-License-Identifier: GPL-2.0

//! Dropping the kernel's caches.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

/// The file that drops caches.
const DROP: &str = "/proc/sys/vm/drop_caches";

/// Drops dentries, inodes and the page cache.
pub fn drop_all() -> Result<()> {
    drop("3")
}

/// As [`drop_all`], also what survives a single pass: xfs keeps a buffer for up to four of them
/// (`XFS_AGF_REF`).
pub fn drop_buffers() -> Result<()> {
    // What is dirty cannot be dropped.
    rustix::fs::sync();
    for _ in 0..5 {
        fs::write(DROP, "3").context(DROP)?;
    }
    drop_all()
}

/// Gives back the memory of slabs in which nothing is allocated.
pub fn shrink_slabs() -> Result<()> {
    const SLABS: &str = "/sys/kernel/slab";
    for slab in fs::read_dir(SLABS).context(SLABS)? {
        let shrink = slab?.path().join("shrink");
        fs::write(&shrink, "1").with_context(|| shrink.display().to_string())?;
    }
    Ok(())
}

/// Drops dentries and inodes, and with the inodes their pages.
pub fn drop_names() -> Result<()> {
    drop("2")
}

fn drop(what: &str) -> Result<()> {
    rustix::fs::sync();
    fs::write(DROP, what).context(DROP)?;
    settle();
    Ok(())
}

/// Waits for a grace period of RCU, after which inodes are freed.
pub fn settle() {
    sleep(Duration::from_secs(1));
}
