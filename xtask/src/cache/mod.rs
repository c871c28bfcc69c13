// SPDX-License-Identifier: GPL-2.0

//! The cache: what was built or downloaded. An entry's key names everything that the
//! entry depends on.
//!
//! An entry is used only when it has its stamp, which is written last. So an
//! interrupted build is resumed or begun again, never used.

mod entry;
mod key;
mod lock;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use anyhow::Context as _;
use anyhow::Result;

pub use entry::Entry;
pub use key::Key;
pub use lock::Lock;
pub use lock::RunDir;

/// The directory of everything that xtask keeps between runs.
#[derive(Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens `$COMPOSEFS_CACHE`, else `$XDG_CACHE_HOME/composefs-linux`, else
    /// `~/.cache/composefs-linux`.
    ///
    /// # Errors
    ///
    /// When none of the three variables is set, or the directory cannot be made.
    pub fn open() -> Result<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let root = if let Some(own) = set("COMPOSEFS_CACHE") {
            PathBuf::from(own)
        } else if let Some(base) = set("XDG_CACHE_HOME") {
            Path::new(&base).join("composefs-linux")
        } else {
            let home = set("HOME").context(
                "HOME is not set: set COMPOSEFS_CACHE to a directory with 20 GB of free space",
            )?;
            Path::new(&home).join(".cache/composefs-linux")
        };
        fs::create_dir_all(&root).with_context(|| {
            format!(
                "cannot make the cache directory {}; set COMPOSEFS_CACHE to another one",
                root.display()
            )
        })?;
        // The kernel's make takes no relative path for O=.
        let root = root.canonicalize()?;
        for dir in ["logs", "locks", "run"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let cache = Self { root };
        RunDir::sweep(&cache.root.join("run"));
        Ok(cache)
    }

    /// The cache's own directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The log file of a piece of work.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// A log file for this run alone. The oldest such logs are removed.
    ///
    /// # Errors
    ///
    /// When the logs' directory cannot be read.
    pub fn numbered_log(&self, name: &str) -> Result<PathBuf> {
        const KEPT: usize = 20;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let dir = self.root.join("logs");
        let prefix = format!("{name}-");
        let mut old: Vec<PathBuf> = fs::read_dir(&dir)?
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.strip_prefix(&prefix).is_some_and(begins_with_time)
            })
            .map(|entry| entry.path())
            .collect();
        // The names begin with the time, so they sort by age.
        old.sort();
        for path in old.iter().take(old.len().saturating_sub(KEPT - 1)) {
            let _ = fs::remove_file(path);
        }
        let now = SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        // Two runs may begin at the same time, and two threads of one.
        Ok(dir.join(format!(
            "{prefix}{:014}-{}-{}.log",
            now.as_millis(),
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        )))
    }

    /// Removes everything but the logs.
    ///
    /// # Errors
    ///
    /// When something cannot be removed.
    pub fn clean(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root)?.flatten() {
            let path = entry.path();
            let kept = ["logs", "locks", "run"]
                .iter()
                .any(|dir| path.ends_with(dir));
            if kept {
                continue;
            }
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// The entry of a kind and key, complete or not.
    pub fn entry(&self, kind: &str, key: &str) -> Entry {
        Entry::new(self.root.join(kind).join(key))
    }

    /// The directory of a complete entry, which `fill` is given to fill if it is
    /// incomplete. One run of xtask at a time fills entries of a kind.
    ///
    /// # Errors
    ///
    /// When `fill` fails, or the entry cannot be made.
    pub fn made(
        &self,
        kind: &str,
        key: &str,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self.entry(kind, key);
        let path = entry.path().to_path_buf();
        if entry.is_complete() {
            return Ok(path);
        }
        let _lock = self.lock(kind)?;
        if !entry.is_complete() {
            entry.start_over()?;
            fill(&path)?;
            entry.complete()?;
        }
        Ok(path)
    }

    /// A directory for what make or cargo build of one clone: they compare times of files,
    /// which say nothing about the files of another clone. Directories of clones that no
    /// longer exist are removed.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made, or another one cannot be removed.
    pub fn of_clone(&self, kind: &str, clone: &Path) -> Result<PathBuf> {
        const CLONE: &str = "clone";
        let _lock = self.lock(&format!("clones-{kind}"))?;
        let clone = clone.as_os_str();
        let key = Key::default().with("clone", clone.as_encoded_bytes());
        let path = self.root.join(kind).join(key.finish());
        fs::create_dir_all(&path)?;
        fs::write(path.join(CLONE), clone.as_encoded_bytes())?;
        for entry in fs::read_dir(self.root.join(kind))?.flatten() {
            let Ok(owner) = fs::read(entry.path().join(CLONE)) else {
                continue;
            };
            if !Path::new(OsStr::from_bytes(&owner)).exists() {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(path)
    }

    /// Takes the lock `name`, waiting for other runs of xtask.
    ///
    /// # Errors
    ///
    /// When the lock file cannot be opened, or the user interrupts.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        Lock::take(&self.root.join("locks").join(name))
    }

    /// A directory for one run, removed when dropped.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn run_dir(&self) -> Result<RunDir> {
        RunDir::new(&self.root.join("run"))
    }
}

/// Whether the end of a log's name begins with a time, as [`Cache::numbered_log`] writes it.
/// Other logs have longer names with a number of their own, like "selftests-1".
fn begins_with_time(end: &str) -> bool {
    let time = end.split('-').next().unwrap_or_default();
    time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_another_name_are_left_alone() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let cache = Cache {
            root: dir.path().to_path_buf(),
        };
        fs::create_dir(dir.path().join("logs"))?;
        for _ in 0..30 {
            fs::write(cache.numbered_log("suite-1")?, "")?;
            fs::write(cache.numbered_log("suite")?, "")?;
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let names: Vec<String> = fs::read_dir(dir.path().join("logs"))?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let numbered = names.iter().filter(|name| name.starts_with("suite-1-"));
        assert_eq!(numbered.count(), 20);
        assert_eq!(names.len(), 40);
        Ok(())
    }

    #[test]
    fn what_is_built_of_a_clone_goes_with_it() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().join("cache");
        fs::create_dir_all(root.join("locks"))?;
        let cache = Cache { root };
        let clones = [dir.path().join("one"), dir.path().join("two")];
        for clone in &clones {
            fs::create_dir(clone)?;
        }
        let [one, two] = &clones;
        let of_one = cache.of_clone("kind", one)?;
        let of_two = cache.of_clone("kind", two)?;
        assert_ne!(of_one, of_two);
        assert!(of_one.exists());
        fs::remove_dir(one)?;
        assert_eq!(cache.of_clone("kind", two)?, of_two);
        assert!(of_two.exists() && !of_one.exists());
        Ok(())
    }
}
