// SPDX-License-Identifier: GPL-2.0

//! Unloading and loading the module, and checking that nothing is left.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::Arguments;
use crate::round::Operation;
use crate::round::Task;

/// Name of the slab cache of inodes in /proc/slabinfo.
const CACHE: &str = "composefs_inode";

/// The module.
pub struct Module {
    file: PathBuf,
}

impl Module {
    /// The module in this file.
    pub fn find(file: &Path) -> Result<Self> {
        ensure!(file.exists(), "{} does not exist", file.display());
        Ok(Self {
            file: file.to_path_buf(),
        })
    }

    /// Unloads and loads the module again and again.
    pub fn reload(&self, task: &mut Task<'_>) -> Result<()> {
        while task.has_time() {
            task.perform(Operation::Reload, || {
                match unload() {
                    // An image is mounted, or the module is not loaded at the moment.
                    Ok(()) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOENT) => {}
                    Err(error) => return Err(error).context("unload"),
                }
                match self.load() {
                    // A mount loads the module, too.
                    Ok(()) | Err(Errno::EXIST | Errno::BUSY) => Ok(()),
                    Err(error) => Err(error).context("load"),
                }
            });
        }
        Ok(())
    }

    fn load(&self) -> Result<(), Errno> {
        let file = rustix::fs::open(&self.file, OFlags::CLOEXEC, Mode::empty())?;
        rustix::system::finit_module(&file, c"", 0)
    }

    /// Checks that no mount is left, and that the module can be unloaded and the disk of
    /// the fixtures be opened exclusively. Loads the module again.
    pub fn check_nothing_left(&self, arguments: &Arguments) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let left: Vec<&str> = mounts
            .lines()
            .filter(|line| line.contains(" - composefs "))
            .collect();
        ensure!(left.is_empty(), "still mounted: {left:?}");
        // Try again for a while: a kernel worker may put the last reference to a file.
        // The kernel warns of inodes that are left in the slab cache.
        retry(|| match unload() {
            Ok(()) => Ok(()),
            Err(error) => bail!("the module cannot be unloaded: {error}"),
        })?;
        let slabs = fs::read_to_string("/proc/slabinfo")?;
        ensure!(!slabs.contains(CACHE), "the slab cache {CACHE} is left");
        rustix::mount::unmount(&arguments.fixtures, UnmountFlags::empty())
            .context("cannot unmount the fixtures")?;
        // A leaked object or mount of an object directory keeps the disk in use.
        retry(|| {
            // On a block device, O_EXCL fails with EBUSY if a file system holds it.
            let flags = OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::open(&arguments.device, flags, Mode::empty())
                .with_context(|| format!("{} is still in use", arguments.device.display()))
                .map(drop)
        })?;
        self.load().context("cannot load the module again")
    }
}

fn unload() -> Result<(), Errno> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(|_| Errno::INVAL)?;
    rustix::system::delete_module(c"composefs", flags)
}

/// Tries again for 30 seconds until `attempt` succeeds.
fn retry(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(_) if begun.elapsed() < Duration::from_secs(30) => {
                thread::sleep(Duration::from_millis(100));
            }
            result => return result,
        }
    }
}
