// SPDX-License-Identifier: GPL-2.0

//! What keeps runs of xtask apart: locks, and directories for one run.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::FlockOperation;
use rustix::fs::flock;

use crate::progress::say;
use crate::signals;

/// A lock between processes, released when dropped or when the process ends.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the file `path`, waiting for other processes.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or the user interrupts.
    pub fn take(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
        let take = || flock(&file, FlockOperation::NonBlockingLockExclusive);
        if take().is_err() {
            say(&format!(
                "xtask: waiting for the lock {}, which another run or suite holds",
                path.display()
            ));
            while take().is_err() {
                if signals::interrupted() {
                    bail!("interrupted");
                }
                thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(Self { _file: file })
    }
}

/// A directory for one run, removed when dropped.
pub struct RunDir {
    dir: tempfile::TempDir,
    _lock: File,
}

impl RunDir {
    /// Makes one in `top`.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn new(top: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("vm-")
            .tempdir_in(top)
            .context("cannot make a directory for the run")?;
        let lock = File::open(dir.path())?;
        flock(&lock, FlockOperation::LockShared)?;
        Ok(Self { dir, _lock: lock })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Removes the directories in `top` whose process was killed.
    pub fn sweep(top: &Path) {
        let Ok(entries) = fs::read_dir(top) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // A younger one may be made but not locked yet.
            let old = entry
                .metadata()
                .and_then(|data| data.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 60));
            let free = File::open(&path)
                .is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok());
            if old && free {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}
