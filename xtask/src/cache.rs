// SPDX-License-Identifier: GPL-2.0

//! The cache: what was built or downloaded, keyed by all that went into it.
//!
//! An entry is believed only when its stamp is there, and the stamp is written
//! last. So an interrupted build is resumed or begun again, never used.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::FlockOperation;
use rustix::fs::flock;
use sha2::Digest;
use sha2::Sha256;

/// Names the stamp in an entry's directory. Its age is the time since the entry
/// was used.
const STAMP: &str = ".complete";

/// How long an entry that nobody uses is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The root of all that xtask keeps between runs.
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
                "no place for the cache: set COMPOSEFS_CACHE to a directory with 20 GB of space",
            )?;
            Path::new(&home).join(".cache/composefs-linux")
        };
        fs::create_dir_all(&root).with_context(|| {
            format!(
                "cannot make the cache directory {}; COMPOSEFS_CACHE names another one",
                root.display()
            )
        })?;
        // The kernel's make takes no relative path for O=.
        let root = root.canonicalize()?;
        for dir in ["logs", "locks", "run"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let cache = Self { root };
        cache.sweep_run();
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

    /// A log file of its own for each run, the oldest ones being removed.
    ///
    /// # Errors
    ///
    /// When the logs' directory cannot be read.
    pub fn numbered_log(&self, name: &str) -> Result<PathBuf> {
        const KEPT: usize = 20;
        let dir = self.root.join("logs");
        let prefix = format!("{name}-");
        let mut old: Vec<PathBuf> = fs::read_dir(&dir)?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
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
        // Two guests may run at once.
        Ok(dir.join(format!(
            "{prefix}{:014}-{}.log",
            now.as_millis(),
            std::process::id()
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
        Entry {
            path: self.root.join(kind).join(key),
        }
    }

    /// A directory for what make or cargo build of one clone: they go by the times of files, which
    /// say nothing about those of another clone. The directories of clones that are gone are
    /// removed.
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

    /// Waits until no other xtask holds the lock of this name, and holds it.
    ///
    /// # Errors
    ///
    /// When the lock file cannot be opened.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.root.join("locks").join(name);
        let file =
            File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("xtask: waiting for another xtask that is at work on \"{name}\"");
            while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                if crate::signals::interrupted() {
                    anyhow::bail!("interrupted");
                }
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        }
        Ok(Lock { _file: file })
    }

    /// A directory for one run, removed when dropped.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn run_dir(&self) -> Result<RunDir> {
        let dir = tempfile::Builder::new()
            .prefix("vm-")
            .tempdir_in(self.root.join("run"))
            .context("cannot make a directory for the run")?;
        let lock = File::open(dir.path())?;
        flock(&lock, FlockOperation::LockShared)?;
        Ok(RunDir { dir, _lock: lock })
    }

    /// Removes run directories whose xtask was killed before it could.
    fn sweep_run(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("run")) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // A younger one may be between its making and its lock.
            let old = entry
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|t| t.elapsed().is_ok_and(|age| age.as_secs() > 60));
            let free = File::open(&path)
                .is_ok_and(|d| flock(&d, FlockOperation::NonBlockingLockExclusive).is_ok());
            if old && free {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// A lock between processes, free again when dropped or when the process dies.
pub struct Lock {
    _file: File,
}

/// A directory that lives as long as one run of a guest.
pub struct RunDir {
    dir: tempfile::TempDir,
    _lock: File,
}

impl RunDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// One cached thing: a directory and its stamp.
pub struct Entry {
    path: PathBuf,
}

impl Entry {
    /// The entry's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was finished. Who asks is about to use it.
    pub fn is_complete(&self) -> bool {
        let stamp = self.path.join(STAMP);
        if !stamp.exists() {
            return false;
        }
        // In a cache that cannot be written to nothing is removed either.
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
        match fs::remove_file(self.path.join(STAMP)) {
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

    /// Says that all is there. Others of its kind that nobody has used for long
    /// are removed: an entry of another key has taken their place.
    ///
    /// # Errors
    ///
    /// When the stamp cannot be written.
    pub fn complete(&self) -> Result<()> {
        fs::write(self.path.join(STAMP), "")
            .with_context(|| format!("cannot finish {}", self.path.display()))?;
        self.remove_old();
        Ok(())
    }

    fn remove_old(&self) {
        let kind = self.path.parent().map(fs::read_dir);
        for entry in kind.into_iter().flatten().flatten().flatten() {
            let stamp = entry.path().join(STAMP);
            let used = fs::metadata(&stamp).and_then(|stamp| stamp.modified());
            let old = used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > KEPT));
            // Without its stamp first: what is left of it is not to be believed.
            if old && fs::remove_file(&stamp).is_ok() {
                // What stays is in nobody's way.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The key of an entry: a digest of everything that its content depends on.
#[derive(Default)]
pub struct Key {
    hash: Sha256,
}

impl Key {
    /// Adds one input.
    #[must_use]
    pub fn with(mut self, what: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        self.hash.update(format!("{what}:{}:", value.len()));
        self.hash.update(value);
        self
    }

    /// Twelve hexadecimal digits, enough for one person's cache.
    pub fn finish(self) -> String {
        let digest = self.hash.finalize();
        digest.iter().take(6).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_keeps_inputs_apart() {
        let one = Key::default().with("a", "bc").with("d", "e").finish();
        let two = Key::default().with("a", "b").with("cd", "e").finish();
        assert_ne!(one, two);
        assert_eq!(one.len(), 12);
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

    #[test]
    fn an_entry_that_nobody_uses_goes_when_another_one_comes() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let entry = |key: &str| Entry {
            path: dir.path().join("kind").join(key),
        };
        let age = |key: &str| -> Result<()> {
            let stamp = File::options()
                .append(true)
                .open(entry(key).path.join(STAMP))?;
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
        let entry = Entry {
            path: dir.path().join("kind/key"),
        };
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
