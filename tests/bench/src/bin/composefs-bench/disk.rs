// SPDX-License-Identifier: GPL-2.0

//! I/O statistics of a block device.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::major;
use rustix::fs::minor;
use rustix::fs::stat;

/// A block device.
pub struct Disk {
    statistics: PathBuf,
}

impl Disk {
    /// The device that this file is on.
    pub fn of(file: &Path) -> Result<Self> {
        Ok(Self::numbered(stat(file)?.st_dev))
    }

    /// The device of this node in /dev.
    pub fn device(node: &Path) -> Result<Self> {
        Ok(Self::numbered(stat(node)?.st_rdev))
    }

    fn numbered(dev: u64) -> Self {
        let name = format!("{}:{}", major(dev), minor(dev));
        Self {
            statistics: Path::new("/sys/dev/block").join(name).join("stat"),
        }
    }

    /// Number of read requests that the device has completed.
    pub fn reads(&self) -> Result<u64> {
        self.field(0)
    }

    /// KiB that were read from the device.
    pub fn kib_read(&self) -> Result<u64> {
        // The unit is sectors of 512 bytes.
        Ok(self.field(2)? / 2)
    }

    /// A field of /sys/dev/block/*/stat: see Documentation/block/stat.rst.
    fn field(&self, index: usize) -> Result<u64> {
        let text = fs::read_to_string(&self.statistics)
            .with_context(|| self.statistics.display().to_string())?;
        text.split_whitespace()
            .nth(index)
            .and_then(|field| field.parse().ok())
            .with_context(|| format!("{} has no field {index}", self.statistics.display()))
    }
}
