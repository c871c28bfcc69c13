// SPDX-License-Identifier: GPL-2.0

//! Which image it was, for those who look for it when all is over.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

/// The directory given with --keep, if there was one.
pub struct Keeper {
    dir: Option<(PathBuf, File)>,
}

impl Keeper {
    /// Takes the directory.
    ///
    /// # Errors
    ///
    /// When nothing can be written there.
    pub fn new(dir: Option<&PathBuf>) -> Result<Self> {
        let open = |dir: &PathBuf| -> Result<(PathBuf, File)> {
            let path = dir.join("current");
            let file =
                File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok((dir.clone(), file))
        };
        let dir = dir.map(open).transpose()?;
        Ok(Self { dir })
    }

    /// Notes that this image is the next one of a thread.
    ///
    /// # Errors
    ///
    /// When it cannot be written down.
    pub fn begin(&self, thread: usize, seed: u64, index: u64) -> Result<()> {
        if let Some((_, file)) = &self.dir {
            // All notes have one length, and each thread its own line.
            let note = format!("{seed:20} {index:20}\n");
            file.write_all_at(note.as_bytes(), (thread * note.len()) as u64)?;
        }
        Ok(())
    }

    /// Keeps an image.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn keep(&self, seed: u64, index: u64, bytes: &[u8]) -> Result<()> {
        if let Some((dir, _)) = &self.dir {
            let name = format!("seed-{seed}-index-{index}.cfs");
            fs::write(dir.join(name), bytes)?;
        }
        Ok(())
    }
}
