// SPDX-License-Identifier: GPL-2.0

//! The kernel's caches, emptied.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

/// Forgets dentries, inodes and pages.
pub fn drop_all() -> Result<()> {
    drop("3")
}

/// Forgets dentries and inodes, and with the inodes their pages.
pub fn drop_names() -> Result<()> {
    drop("2")
}

fn drop(what: &str) -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", what).context("/proc/sys/vm/drop_caches")?;
    settle();
    Ok(())
}

/// Waits for work that the kernel has put off: inodes are freed a grace period
/// later.
pub fn settle() {
    sleep(Duration::from_secs(1));
}
