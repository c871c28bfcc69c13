// SPDX-License-Identifier: GPL-2.0

//! Noting which images are in use, and keeping the images that fail.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

/// The directory of --keep, if given, and the file `current` in it.
pub struct Keeper {
    dir: Option<(PathBuf, File)>,
}

impl Keeper {
    /// Creates the file `current` in the directory.
    ///
    /// # Errors
    ///
    /// When the file cannot be created.
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

    /// Notes which image a thread uses next.
    ///
    /// # Errors
    ///
    /// When the note cannot be written.
    pub fn begin(&self, thread: usize, seed: u64, index: u64) -> Result<()> {
        if let Some((_, file)) = &self.dir {
            // All notes have the same length, so that each thread has its own line.
            let note = format!("{seed:20} {index:20}\n");
            file.write_all_at(note.as_bytes(), (thread * note.len()) as u64)?;
        }
        Ok(())
    }

    /// Writes an image to the directory.
    ///
    /// # Errors
    ///
    /// When the image cannot be written.
    pub fn keep(&self, seed: u64, index: u64, bytes: &[u8]) -> Result<()> {
        if let Some((dir, _)) = &self.dir {
            let name = format!("seed-{seed}-index-{index}.cfs");
            fs::write(dir.join(name), bytes)?;
        }
        Ok(())
    }
}
