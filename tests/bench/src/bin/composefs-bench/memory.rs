// SPDX-License-Identifier: GPL-2.0

//! Memory use of the kernel.

use std::fs;

use anyhow::Context as _;
use anyhow::Result;

/// KiB of memory at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Used by slabs: inodes and dentries.
    pub slab: u64,
    /// Used by the page cache.
    pub page_cache: u64,
    /// Free.
    pub free: u64,
}

impl Memory {
    /// Reads /proc/meminfo and /proc/zoneinfo.
    pub fn now() -> Result<Self> {
        // Add the counts of each processor to the sums.
        fs::write("/proc/sys/vm/stat_refresh", "1").context("/proc/sys/vm/stat_refresh")?;
        let info = fs::read_to_string("/proc/meminfo")?;
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .with_context(|| format!("/proc/meminfo has no {name}"))
        };
        Ok(Self {
            slab: field("Slab")?,
            page_cache: field("Cached")?,
            free: field("MemFree")? + set_aside()?,
        })
    }
}

/// KiB of free pages in the lists of the processors, which MemFree leaves out.
fn set_aside() -> Result<u64> {
    let zones = fs::read_to_string("/proc/zoneinfo")?;
    let page = u64::try_from(rustix::param::page_size())?;
    let pages: u64 = zones
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("count:")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .sum();
    Ok(pages * page / 1024)
}
