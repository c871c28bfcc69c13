// SPDX-License-Identifier: GPL-2.0

//! One entry of the cache.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use anyhow::Result;

/// How long an unused entry is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A directory of the cache and its stamp, which is written last: without it the
/// entry is incomplete.
pub struct Entry {
    path: PathBuf,
}

impl Entry {
    /// The stamp's name in an entry's directory. Its time is that of the entry's last use.
    pub const STAMP: &str = ".complete";

    /// The entry in the directory `path`, complete or not.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The entry's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was finished. This counts as a use of it.
    pub fn is_complete(&self) -> bool {
        let stamp = self.path.join(Self::STAMP);
        if !stamp.exists() {
            return false;
        }
        // Nothing is removed from a read-only cache, so an old stamp does no harm there.
        if let Ok(stamp) = File::options().append(true).open(stamp) {
            let _ = stamp.set_modified(SystemTime::now());
        }
        true
    }

    /// Makes the directory, keeping what an interrupted build left in it.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn resume(&self) -> Result<()> {
        fs::create_dir_all(&self.path)
            .with_context(|| format!("cannot make {}", self.path.display()))?;
        match fs::remove_file(self.path.join(Self::STAMP)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Makes the directory anew, empty.
    ///
    /// # Errors
    ///
    /// When the old one cannot be removed or the new one made.
    pub fn start_over(&self) -> Result<()> {
        if self.path.exists() {
            fs::remove_dir_all(&self.path)
                .with_context(|| format!("cannot remove the unfinished {}", self.path.display()))?;
        }
        self.resume()
    }

    /// Writes the stamp, and removes entries of the same kind that were not used for
    /// [`KEPT`]: entries of other keys have taken their place.
    ///
    /// # Errors
    ///
    /// When the stamp cannot be written.
    pub fn complete(&self) -> Result<()> {
        fs::write(self.path.join(Self::STAMP), "")
            .with_context(|| format!("cannot finish {}", self.path.display()))?;
        self.remove_old();
        Ok(())
    }

    fn remove_old(&self) {
        let kind = self.path.parent().map(fs::read_dir);
        for entry in kind.into_iter().flatten().flatten().flatten() {
            let stamp = entry.path().join(Self::STAMP);
            let used = fs::metadata(&stamp).and_then(|stamp| stamp.modified());
            let old = used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > KEPT));
            // The stamp first: an entry that is removed in part is then incomplete.
            if old && fs::remove_file(&stamp).is_ok() {
                // What cannot be removed stays, incomplete.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_nobody_uses_goes_when_another_one_comes() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let entry = |key: &str| Entry::new(dir.path().join("kind").join(key));
        let age = |key: &str| -> Result<()> {
            let stamp = File::options()
                .append(true)
                .open(entry(key).path.join(Entry::STAMP))?;
            Ok(stamp.set_modified(SystemTime::now() - 2 * KEPT)?)
        };
        for key in ["used", "unused", "recent", "unfinished"] {
            entry(key).resume()?;
        }
        for key in ["used", "unused", "recent"] {
            entry(key).complete()?;
        }
        age("used")?;
        age("unused")?;
        assert!(entry("used").is_complete());
        entry("new").resume()?;
        entry("new").complete()?;
        for key in ["used", "recent", "unfinished", "new"] {
            assert!(entry(key).path.exists(), "{key} is gone");
        }
        assert!(!entry("unused").path.exists());
        Ok(())
    }

    #[test]
    fn entry_is_complete_only_by_its_stamp() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let entry = Entry::new(dir.path().join("kind/key"));
        assert!(!entry.is_complete());
        entry.resume()?;
        assert!(!entry.is_complete());
        entry.complete()?;
        assert!(entry.is_complete());
        entry.start_over()?;
        assert!(!entry.is_complete());
        Ok(())
    }
}
