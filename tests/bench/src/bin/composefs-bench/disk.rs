// SPDX-License-Identifier: GPL-2.0

//! What a block device has done.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::major;
use rustix::fs::minor;
use rustix::fs::stat;

/// The device that a file is on.
pub struct Disk {
    statistics: PathBuf,
}

impl Disk {
    /// The device of this file.
    pub fn of(file: &Path) -> Result<Self> {
        let dev = stat(file)?.st_dev;
        let name = format!("{}:{}", major(dev), minor(dev));
        Ok(Self {
            statistics: Path::new("/sys/dev/block").join(name).join("stat"),
        })
    }

    /// Requests to read that it has completed.
    pub fn reads(&self) -> Result<u64> {
        self.field(0)
    }

    /// KiB that have been read from it.
    pub fn kib_read(&self) -> Result<u64> {
        // It counts in sectors of 512 bytes.
        Ok(self.field(2)? / 2)
    }

    /// A number of its statistics: Documentation/block/stat.rst.
    fn field(&self, index: usize) -> Result<u64> {
        let text = fs::read_to_string(&self.statistics)
            .with_context(|| self.statistics.display().to_string())?;
        text.split_whitespace()
            .nth(index)
            .and_then(|field| field.parse().ok())
            .context("a disk without statistics")
    }
}
