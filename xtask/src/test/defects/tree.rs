// SPDX-License-Identifier: GPL-2.0

//! Copies of the clone, in which files may be broken.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::Context as _;
use anyhow::Result;

use crate::context::Context;
use crate::git::Tree;
use crate::git::git;
use crate::progress::output;
use crate::sync::lock;

/// The numbers of the copies that are in use. While this is locked, git may change the list of
/// working trees.
static USED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A working tree of the clone's repository, with the files that the clone has now. It stays in
/// target/defects, so that only what differs is built again. Each thread has one of its own.
pub struct Copy {
    top: PathBuf,
    number: u32,
}

impl Copy {
    /// Makes it, or brings it up to date. What a run that was killed has left in it is dropped.
    ///
    /// # Errors
    ///
    /// When git cannot do that.
    pub fn ready(context: &Context) -> Result<Self> {
        let copy = Self::free(context);
        let _others_wait = lock(&USED);
        fs::create_dir_all(&copy.top)
            .with_context(|| format!("cannot make {}", copy.top.display()))?;
        let here = |words: &[&str]| output(git().current_dir(&context.repo).args(words));
        if !copy.is_one(context) {
            let path = copy.path();
            if path.exists() {
                fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
            // One that was removed with target/, or whose clone was moved.
            here(&["worktree", "prune"])?;
            let path = path.to_string_lossy();
            here(&["worktree", "add", "--quiet", "--detach", "--force", &path])?;
        }
        let head = here(&["rev-parse", "HEAD"])?;
        copy.git(&["checkout", "--quiet", "--force", "--detach", head.trim()])?;
        copy.clean()?;
        let tree = Tree::stored(&context.repo)?;
        copy.git(&["read-tree", "--reset", "-u", &tree.object])?;
        Ok(copy)
    }

    /// One that no other thread uses.
    fn free(context: &Context) -> Self {
        let mut used = lock(&USED);
        let number = (1..).find(|number| !used.contains(number)).unwrap_or(1);
        used.insert(number);
        Self {
            top: context.repo.join("target/defects").join(number.to_string()),
            number,
        }
    }

    /// Whether it is a working tree of its own. Anywhere else below the clone, git would work on
    /// the clone itself, and throw away what was changed there.
    ///
    /// Nor may it belong to another clone, from which target/ was copied.
    fn is_one(&self, context: &Context) -> bool {
        let Ok(path) = self.path().canonicalize() else {
            return false;
        };
        let common = |git: &mut Command| {
            output(git.args(["rev-parse", "--path-format=absolute", "--git-common-dir"])).ok()
        };
        let top = output(self.command().args(["rev-parse", "--show-toplevel"]));
        top.is_ok_and(|top| Path::new(top.trim()) == path)
            && common(&mut self.command()) == common(git().current_dir(&context.repo))
    }

    /// Its directory.
    pub fn path(&self) -> PathBuf {
        self.top.join("tree")
    }

    /// For what cargo builds of it.
    pub fn target(&self) -> PathBuf {
        self.top.join("cargo")
    }

    /// The log of what runs in it.
    pub fn log(&self, name: &str) -> PathBuf {
        self.top.join(format!("{name}.log"))
    }

    /// Applies a patch.
    ///
    /// # Errors
    ///
    /// When it does not apply.
    pub fn apply(&self, patch: &Path) -> Result<()> {
        output(self.command().arg("apply").arg(patch)).map(drop)
    }

    /// Takes back what was changed since [`ready`](Self::ready).
    ///
    /// # Errors
    ///
    /// When git cannot do that.
    pub fn clean(&self) -> Result<()> {
        self.git(&["checkout", "--quiet", "--", "."])?;
        self.git(&["clean", "--quiet", "--force", "-d"])
    }

    fn git(&self, words: &[&str]) -> Result<()> {
        output(self.command().args(words)).map(drop)
    }

    fn command(&self) -> Command {
        let mut git = git();
        git.current_dir(self.path());
        git
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        lock(&USED).remove(&self.number);
    }
}
