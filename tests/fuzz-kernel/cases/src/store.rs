// SPDX-License-Identifier: GPL-2.0

//! Whether all that mounts have opened is closed again: then the disk with the objects is free as
//! soon as it is unmounted.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;

/// How often it is looked, and how long is waited in between: a worker closes some files later.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// The disk with the objects.
pub struct Disk {
    point: PathBuf,
    device: PathBuf,
    kind: String,
}

impl Disk {
    /// The disk that a directory is on. `None` if it is not one that is mounted for it.
    ///
    /// # Errors
    ///
    /// When the table of mounts cannot be read.
    pub fn of(dir: &Path) -> Result<Option<Self>> {
        let table = fs::read_to_string("/proc/self/mountinfo").context("no table of mounts")?;
        let mounts = table.lines().filter_map(Self::parse);
        let below = mounts.filter(|disk| dir.starts_with(&disk.point));
        let last = below.max_by_key(|disk| disk.point.as_os_str().len());
        Ok(last.filter(|disk| disk.point != Path::new("/") && disk.device.starts_with("/dev")))
    }

    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        Some(Self {
            point: left.split(' ').nth(4)?.into(),
            kind: right.next()?.to_owned(),
            device: right.next()?.into(),
        })
    }

    /// Unmounts it, checks that nobody uses it, and mounts it again.
    ///
    /// # Errors
    ///
    /// When the disk is still in use, or cannot be mounted again.
    pub fn check(&self) -> Result<()> {
        retry(|| rustix::mount::unmount(&self.point, UnmountFlags::empty()))
            .with_context(|| format!("{} cannot be unmounted", self.point.display()))?;
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
        let free = retry(|| rustix::fs::open(&self.device, flags, Mode::empty()));
        let free = free
            .map(drop)
            .context("an object is still open after all unmounts");
        let flags = MountFlags::empty();
        rustix::mount::mount(&self.device, &self.point, self.kind.as_str(), flags, None)
            .context("the disk cannot be mounted again")?;
        free
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..TRIES {
        match call() {
            Err(Errno::BUSY) => thread::sleep(PAUSE),
            result => return result,
        }
    }
    call()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read() {
        let line = "25 1 254:16 / /scratch rw,relatime shared:3 - ext4 /dev/vdb rw";
        let disk = Disk::parse(line).map(|disk| (disk.point, disk.device, disk.kind));
        let wanted = ("/scratch".into(), "/dev/vdb".into(), "ext4".to_owned());
        assert_eq!(disk, Some(wanted));
    }
}
