// SPDX-License-Identifier: GPL-2.0

//! The module: unloading and loading it, and what must be left of it then.

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
use crate::board::Desk;
use crate::board::Operation;

/// Its inodes' cache, as /proc/slabinfo has it.
const CACHE: &str = "composefs_inode";

/// The module's file.
pub struct Module {
    file: PathBuf,
}

impl Module {
    /// Finds it.
    pub fn find(file: &Path) -> Result<Self> {
        ensure!(file.exists(), "no module {}", file.display());
        Ok(Self {
            file: file.to_path_buf(),
        })
    }

    /// Unloads and loads it again and again.
    pub fn reload(&self, desk: &mut Desk<'_>) -> Result<()> {
        while desk.goes_on() {
            desk.does(Operation::Reload, || {
                match unload() {
                    // Somebody has mounted, or was faster.
                    Ok(()) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOENT) => {}
                    Err(error) => return Err(error).context("unload"),
                }
                match self.load() {
                    // A mount has the kernel load it, too.
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

    /// Unloads the module, unmounts the fixtures, and looks for what is left.
    /// The module is loaded again afterwards.
    pub fn leave(&self, arguments: &Arguments) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let left: Vec<&str> = mounts
            .lines()
            .filter(|line| line.contains(" - composefs "))
            .collect();
        ensure!(left.is_empty(), "still mounted: {left:?}");
        // The last reference to a file may be put by a worker of the kernel.
        // The kernel itself says what is left in the cache of inodes.
        patiently(|| match unload() {
            Ok(()) => Ok(()),
            Err(error) => bail!("the module cannot be unloaded: {error}"),
        })?;
        let slabs = fs::read_to_string("/proc/slabinfo")?;
        ensure!(!slabs.contains(CACHE), "there is a cache {CACHE} still");
        rustix::mount::unmount(&arguments.fixtures, UnmountFlags::empty())
            .context("unmounting the fixtures")?;
        // A leaked object or mount of an object directory keeps the disk.
        patiently(|| {
            // On a block device, O_EXCL needs nobody else to have claimed it.
            let flags = OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::open(&arguments.device, flags, Mode::empty())
                .with_context(|| format!("{} is in use still", arguments.device.display()))
                .map(drop)
        })?;
        self.load().context("loading the module again")
    }
}

fn unload() -> Result<(), Errno> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(|_| Errno::INVAL)?;
    rustix::system::delete_module(c"composefs", flags)
}

/// Tries for half a minute.
fn patiently(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
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
