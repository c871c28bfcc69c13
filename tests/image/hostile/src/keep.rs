// SPDX-License-Identifier: GPL-2.0

//! Which image it was, for those who look for it when all is over.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context as _;
use anyhow::Result;

static CURRENT: AtomicU64 = AtomicU64::new(0);

/// Number of the image that is in use.
pub fn current() -> u64 {
    CURRENT.load(Relaxed)
}

/// The directory given with --keep, if there was one.
pub struct Keeper {
    seed: u64,
    dir: Option<(PathBuf, File)>,
}

impl Keeper {
    /// Takes the directory.
    ///
    /// # Errors
    ///
    /// When nothing can be written there.
    pub fn new(seed: u64, dir: Option<&PathBuf>) -> Result<Self> {
        let open = |dir: &PathBuf| -> Result<(PathBuf, File)> {
            let path = dir.join("current");
            let file =
                File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok((dir.clone(), file))
        };
        let dir = dir.map(open).transpose()?;
        Ok(Self { seed, dir })
    }

    /// Notes that this image comes next.
    ///
    /// # Errors
    ///
    /// When it cannot be written down.
    pub fn begin(&self, index: u64) -> Result<()> {
        CURRENT.store(index, Relaxed);
        if let Some((_, file)) = &self.dir {
            // All notes have one length.
            let note = format!("{:20} {index:20}\n", self.seed);
            file.write_all_at(note.as_bytes(), 0)?;
        }
        Ok(())
    }

    /// Keeps an image.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn keep(&self, index: u64, bytes: &[u8]) -> Result<()> {
        if let Some((dir, _)) = &self.dir {
            let name = format!("seed-{}-index-{index}.cfs", self.seed);
            fs::write(dir.join(name), bytes)?;
        }
        Ok(())
    }
}
