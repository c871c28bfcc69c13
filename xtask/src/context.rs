// SPDX-License-Identifier: GPL-2.0

//! What every command is given: the clone and the cache.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::cache::Cache;

/// The clone that xtask works for, and the place where it keeps what it made.
pub struct Context {
    /// Top of the clone.
    pub repo: PathBuf,
    /// Everything built or downloaded.
    pub cache: Cache,
}

impl Context {
    /// Finds the clone and opens the cache.
    ///
    /// # Errors
    ///
    /// When the cache directory cannot be made.
    pub fn new() -> Result<Self> {
        // Cargo sets the variable when it runs us; the compiled-in value serves
        // a binary that was started directly.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let repo = manifest.parent().unwrap_or(&manifest).to_path_buf();
        Ok(Self {
            repo,
            cache: Cache::open()?,
        })
    }

    /// The folder of the kernel module.
    pub fn module_dir(&self) -> PathBuf {
        self.repo.join("fs/composefs")
    }
}
