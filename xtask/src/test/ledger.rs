// SPDX-License-Identifier: GPL-2.0

//! What passed and failed, in files that outlive the run: a directory for each tree that was
//! tested, with a record and a log of each piece. Trees that differ only in what people read, or
//! in the benchmark, share it: most pieces depend on neither.
//!
//! A record is written when its piece has ended, and appears as a whole. So a run that was
//! stopped by Ctrl-C, by SIGKILL or by a power cut can be gone on with.

use std::env;
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;

use super::outcome::Outcome;
use super::suite::Reads;
use crate::cache::Key;
use crate::git::Tree;
use crate::progress::say;

/// Variables of the environment that change what is tested.
const VARIABLES: [&str; 10] = [
    "COMPOSEFS_ACCEL",
    "COMPOSEFS_DEBIAN_MIRROR",
    "COMPOSEFS_FUZZ_SECONDS",
    "COMPOSEFS_HOSTILE_SEED",
    "COMPOSEFS_IMAGES",
    "COMPOSEFS_KERNEL_BUILD",
    "COMPOSEFS_KERNEL_SOURCE",
    "COMPOSEFS_NO_SKIP",
    "COMPOSEFS_STRESS_SECONDS",
    "COMPOSEFS_STRESS_SEED",
];

/// How many trees are remembered.
const KEPT: usize = 5;

/// The file that says which tree a directory is about.
const ABOUT: &str = "tree";

/// How a piece ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The piece: SUITE or SUITE:PART.
    pub piece: String,
    /// The tree object of all files.
    pub tree: String,
    /// Its results.
    pub outcome: Outcome,
    /// How long it took.
    pub time: Duration,
    /// How often it failed on this tree before.
    pub failed_before: u32,
    /// What it said.
    pub log: PathBuf,
}

/// The records of one tree.
pub struct Ledger {
    dir: PathBuf,
    /// The clone, and what it held when this was opened, if git can tell.
    tree: Option<(PathBuf, Tree)>,
    /// The last other tree that was tested.
    other: Option<String>,
}

impl Ledger {
    /// Opens the records of what a clone holds now. They are in its directory target/test.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made.
    pub fn open(repo: &Path) -> Result<Self> {
        let top = repo.join("target/test");
        // An archive of the source has no history.
        let tree = match Tree::of(repo) {
            Ok(tree) => tree,
            Err(error) => {
                say(&format!(
                    "xtask: --resume will know of no result: git does not know the files: {error:#}"
                ));
                return Self::of(&top, "unknown", "a tree that git does not know");
            }
        };
        let value = |name: &&str| env::var_os(name).filter(|value| !value.is_empty());
        let set = VARIABLES
            .iter()
            .filter_map(|name| Some((*name, value(name)?)));
        let mut key = Key::default().with("tree", &tree.code);
        let mut about = tree.about.clone();
        for (name, value) in set {
            key = key.with(name, value.as_encoded_bytes());
            about.push_str(&format!(", {name}={}", value.to_string_lossy()));
        }
        let ledger = Self::of(&top, &key.finish(), &about)?;
        Ok(Self {
            tree: Some((repo.to_path_buf(), tree)),
            ..ledger
        })
    }

    /// The tree object of all files, as they were when this was opened.
    pub fn tree(&self) -> &str {
        self.tree.as_ref().map_or("", |(_, tree)| &tree.object)
    }

    /// Whether a result can be kept: the clone still holds what it did, as far as the piece
    /// `reads` it. If not, says why.
    pub fn is_current(&self, reads: Reads) -> bool {
        let Some((repo, before)) = &self.tree else {
            return false;
        };
        let why = match Tree::of(repo) {
            Ok(tree) if tree.object == before.object => return true,
            Ok(tree) if tree.code == before.code && reads == Reads::Code => return true,
            Ok(_) => "files have changed meanwhile".to_owned(),
            Err(error) => format!("git does not know the files any more: {error:#}"),
        };
        say(&format!(
            "xtask: --resume will not know of this result: {why}"
        ));
        false
    }

    /// The records named `key` in `top`.
    fn of(top: &Path, key: &str, about: &str) -> Result<Self> {
        let dir = top.join(key);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut others: Vec<(SystemTime, PathBuf)> = fs::read_dir(top)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| *path != dir)
            .filter_map(|path| Some((fs::metadata(path.join(ABOUT)).ok()?.modified().ok()?, path)))
            .collect();
        others.sort();
        let excess = others.len().saturating_sub(KEPT - 1);
        for (_, old) in others.drain(..excess) {
            let _ = fs::remove_dir_all(old);
        }
        let last = others.last();
        let other = last.and_then(|(_, path)| fs::read_to_string(path.join(ABOUT)).ok());
        // Its time tells which tree was tested last.
        fs::write(dir.join(ABOUT), about)?;
        Ok(Self {
            dir,
            tree: None,
            other,
        })
    }

    /// The record of a piece that passed, if no file that it `reads` has changed since.
    pub fn passed(&self, piece: &str, reads: Reads) -> Option<Record> {
        self.record(piece)
            .filter(|record| record.outcome.is_good())
            .filter(|record| reads == Reads::Code || record.tree == self.tree())
    }

    /// The last other tree that was tested, in words.
    pub fn other(&self) -> Option<&str> {
        self.other.as_deref()
    }

    /// Whether there is any record of this tree.
    pub fn is_empty(&self) -> bool {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.path());
        !names.any(|path| path.extension().is_some_and(|end| end == "json"))
    }

    /// A piece begins: forgets its last record, but not that it failed, if that was on a tree in
    /// which what it `reads` is the same.
    ///
    /// # Errors
    ///
    /// When the record cannot be removed.
    pub fn begin(&self, piece: &str, reads: Reads) -> Result<Begun> {
        let log = self.file(piece, "log");
        let old = |record: &Record| reads == Reads::All && record.tree != self.tree();
        if self.record(piece).is_some_and(|record| old(&record)) {
            self.forget(piece)?;
        }
        // The logs are there also if a later try was interrupted.
        let failed = |number: u32| self.file(piece, &format!("failed-{number}.log"));
        let mut failed_before = 0;
        while failed(failed_before + 1).exists() {
            failed_before += 1;
        }
        if self
            .record(piece)
            .is_some_and(|record| !record.outcome.is_good())
        {
            failed_before += 1;
            fs::rename(&log, failed(failed_before))
                .with_context(|| format!("cannot keep {}", log.display()))?;
        }
        match fs::remove_file(self.file(piece, "json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!(error),
            _ => {}
        }
        Ok(Begun { log, failed_before })
    }

    /// A piece has ended.
    ///
    /// # Errors
    ///
    /// When the record cannot be written.
    pub fn end(&self, record: &Record) -> Result<()> {
        let path = self.file(&record.piece, "json");
        let write = || -> Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            file.write_all(&serde_json::to_vec_pretty(record)?)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            // The new name, too, must outlive a power cut.
            Ok(File::open(&self.dir)?.sync_all()?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes all that is known of a piece.
    fn forget(&self, piece: &str) -> Result<()> {
        let mut paths = vec![self.file(piece, "json")];
        let failed = (1..).map(|number| self.file(piece, &format!("failed-{number}.log")));
        paths.extend(failed.take_while(|path| path.exists()));
        for path in paths {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    fn record(&self, piece: &str) -> Option<Record> {
        let bytes = fs::read(self.file(piece, "json")).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.piece == piece).then_some(record)
    }

    fn file(&self, piece: &str, end: &str) -> PathBuf {
        /// Longer names of files are hard to read, and some cannot be.
        const LONGEST: usize = 80;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_,=".contains(c);
        let mut name: String = piece
            .chars()
            .map(|c| if plain(c) { c } else { '.' })
            .collect();
        if name.len() > LONGEST {
            name.truncate(LONGEST);
            name.push('-');
            name.push_str(&Key::default().with("piece", piece).finish());
        }
        self.dir.join(format!("{name}.{end}"))
    }
}

/// A piece that has begun.
pub struct Begun {
    /// The file for what it says.
    pub log: PathBuf,
    /// How often it failed on this tree before.
    pub failed_before: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(ledger: &Ledger, piece: &str, passed: u32, failed: u32) -> Result<()> {
        let begun = ledger.begin(piece, Reads::Code)?;
        fs::write(&begun.log, "said")?;
        ledger.end(&Record {
            piece: piece.to_owned(),
            tree: ledger.tree().to_owned(),
            outcome: Outcome {
                passed,
                failed,
                ..Outcome::default()
            },
            time: Duration::from_secs(1),
            failed_before: begun.failed_before,
            log: begun.log,
        })
    }

    #[test]
    fn only_what_passed_is_kept() -> Result<()> {
        let top = tempfile::tempdir()?;
        let ledger = Ledger::of(top.path(), "a", "tree a")?;
        assert!(ledger.is_empty());
        ended(&ledger, "good", 1, 0)?;
        ended(&ledger, "bad", 1, 1)?;
        ended(&ledger, "none", 0, 0)?;
        // It was stopped before its end.
        ledger.begin("stopped", Reads::Code)?;
        ended(&ledger, "again", 1, 0)?;
        ledger.begin("again", Reads::Code)?;

        let ledger = Ledger::of(top.path(), "a", "tree a")?;
        assert!(!ledger.is_empty());
        assert!(ledger.passed("good", Reads::Code).is_some());
        for piece in ["bad", "none", "stopped", "again", "other"] {
            assert!(ledger.passed(piece, Reads::Code).is_none(), "{piece}");
        }
        Ok(())
    }

    #[test]
    fn half_a_record_is_none() -> Result<()> {
        let top = tempfile::tempdir()?;
        let ledger = Ledger::of(top.path(), "a", "tree a")?;
        ended(&ledger, "good", 1, 0)?;
        let path = ledger.file("good", "json");
        let whole = fs::read(&path)?;
        fs::write(&path, &whole[..whole.len() / 2])?;
        assert!(ledger.passed("good", Reads::Code).is_none());
        Ok(())
    }

    #[test]
    fn a_failure_is_remembered_with_its_log() -> Result<()> {
        let top = tempfile::tempdir()?;
        let ledger = Ledger::of(top.path(), "a", "tree a")?;
        ended(&ledger, "suite:part", 1, 1)?;
        // It was stopped before its end.
        ledger.begin("suite:part", Reads::Code)?;
        ended(&ledger, "suite:part", 0, 2)?;
        ended(&ledger, "suite:part", 2, 0)?;
        let record = ledger.passed("suite:part", Reads::Code);
        assert_eq!(record.map(|record| record.failed_before), Some(2));
        for number in 1..=2 {
            let log = ledger.file("suite:part", &format!("failed-{number}.log"));
            assert_eq!(fs::read_to_string(log)?, "said", "{number}");
        }
        Ok(())
    }

    #[test]
    fn another_tree_has_other_records() -> Result<()> {
        let top = tempfile::tempdir()?;
        let first = Ledger::of(top.path(), "a", "tree a")?;
        assert_eq!(first.other(), None);
        ended(&first, "good", 1, 0)?;
        let second = Ledger::of(top.path(), "b", "tree b")?;
        assert_eq!(second.other(), Some("tree a"));
        assert!(second.is_empty() && second.passed("good", Reads::Code).is_none());
        // The first one is still there.
        let first = Ledger::of(top.path(), "a", "tree a")?;
        assert!(first.passed("good", Reads::Code).is_some());
        Ok(())
    }

    #[test]
    fn what_reads_all_runs_after_any_change() -> Result<()> {
        let top = tempfile::tempdir()?;
        let tree = |object: &str| Tree {
            object: object.to_owned(),
            code: "code".to_owned(),
            about: "a tree".to_owned(),
        };
        let ledger = |object| -> Result<Ledger> {
            Ok(Ledger {
                tree: Some((PathBuf::new(), tree(object))),
                ..Ledger::of(top.path(), "code", "a tree")?
            })
        };
        ended(&ledger("one text")?, "good", 1, 0)?;
        let same = ledger("one text")?;
        assert!(same.passed("good", Reads::All).is_some());
        let other = ledger("other text")?;
        assert!(other.passed("good", Reads::Code).is_some());
        assert!(other.passed("good", Reads::All).is_none());

        // Nor is a failure on other texts one of this tree.
        ended(&other, "bad", 0, 1)?;
        assert_eq!(other.begin("bad", Reads::Code)?.failed_before, 1);
        ended(&other, "bad", 0, 1)?;
        let third = ledger("a third text")?;
        assert_eq!(third.begin("bad", Reads::All)?.failed_before, 0);
        Ok(())
    }

    #[test]
    fn long_names_stay_apart() -> Result<()> {
        let top = tempfile::tempdir()?;
        let ledger = Ledger::of(top.path(), "a", "tree a")?;
        let long = "selftests:".to_owned() + &"name,".repeat(100);
        ended(&ledger, &long, 1, 0)?;
        assert!(ledger.passed(&long, Reads::Code).is_some());
        assert!(ledger.passed(&format!("{long}x"), Reads::Code).is_none());
        Ok(())
    }
}
