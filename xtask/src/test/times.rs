// SPDX-License-Identifier: GPL-2.0

//! How long each suite took the last time, on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use crate::cache::Cache;

/// The times of the last runs that passed, of all clones.
pub struct Times<'a> {
    cache: &'a Cache,
    /// Seconds.
    known: BTreeMap<String, u64>,
}

impl<'a> Times<'a> {
    /// Reads them from the cache.
    pub fn read(cache: &'a Cache) -> Self {
        Self {
            cache,
            known: known(&file(cache)),
        }
    }

    /// How long a piece took.
    pub fn of(&self, piece: &str) -> Option<Duration> {
        self.known.get(piece).copied().map(Duration::from_secs)
    }

    /// Keeps the time of a piece that has passed.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or the user interrupts.
    pub fn keep(&mut self, piece: &str, time: Duration) -> Result<()> {
        let _lock = self.cache.lock("times")?;
        let path = file(self.cache);
        // Another run may have added some.
        self.known = known(&path);
        self.known.insert(piece.to_owned(), time.as_secs());
        let text = serde_json::to_vec_pretty(&self.known)?;
        let new = path.with_extension("new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn file(cache: &Cache) -> PathBuf {
    cache.root().join("times.json")
}

/// What a file has. Without it, nothing is known, which does no harm.
fn known(path: &PathBuf) -> BTreeMap<String, u64> {
    let bytes = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
