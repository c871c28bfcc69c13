// SPDX-License-Identifier: GPL-2.0

//! git, for the repository of its working directory and no other one.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::progress::output;

/// Variables that make git use a repository other than that of its working directory.
const REPOSITORY: [&str; 10] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
];

/// git without these variables.
pub fn git() -> Command {
    let mut git = Command::new("git");
    forget_repository(&mut git);
    git
}

/// Removes these variables from a command's environment. They are set if a hook of
/// another repository runs xtask.
pub fn forget_repository(command: &mut Command) {
    for name in REPOSITORY {
        command.env_remove(name);
    }
}

/// Asks for the directory with the objects.
const OBJECTS: [&str; 3] = ["rev-parse", "--git-path", "objects"];

/// What people read, and the benchmark: no test in a guest depends on these files. They are
/// patterns of git.
const ASIDE: [&str; 4] = ["Documentation", "*.md", "tests/bench", "xtask/src/bench"];

/// What the working directory of a repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The name of a tree object: of all files, changed ones and new ones, too, but not of
    /// those that git ignores.
    pub object: String,
    /// The same without [`ASIDE`].
    pub code: String,
    /// For people: the last commit, and whether files differ from it.
    pub about: String,
}

impl Tree {
    /// Names what is there. The repository is not changed: neither its objects, nor the index,
    /// nor a branch.
    ///
    /// # Errors
    ///
    /// When this is no repository with a commit, has another one in it, whose files git does not
    /// look at, or when a file cannot be read.
    pub fn of(repo: &Path) -> Result<Self> {
        Self::with_objects(repo, None)
    }

    /// The same, with the files stored in the repository, as `git stash` does, for a caller that
    /// reads the tree.
    ///
    /// # Errors
    ///
    /// As for [`of`](Self::of).
    pub fn stored(repo: &Path) -> Result<Self> {
        let own = output(git().current_dir(repo).args(OBJECTS))?;
        Self::with_objects(repo, Some(repo.join(own.trim())))
    }

    /// Stores new objects in a directory, or in one that is removed at once.
    fn with_objects(repo: &Path, store: Option<PathBuf>) -> Result<Self> {
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let index = scratch.path().join("index");
        let store = match store {
            Some(store) => store,
            None => {
                let new = scratch.path().join("objects");
                std::fs::create_dir(&new)?;
                new
            }
        };
        let own = output(git().current_dir(repo).args(OBJECTS))?;
        let own = repo.join(own.trim());
        let run = |words: &[&str]| -> Result<String> {
            let mut command = git();
            command
                .current_dir(repo)
                .env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", &store)
                .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &own)
                .args(words);
            Ok(output(&mut command)?.trim().to_owned())
        };
        run(&["read-tree", "HEAD"])?;
        run(&["add", "--all"])?;
        let object = run(&["write-tree"])?;
        let entries = run(&["ls-tree", "-r", &object])?;
        if let Some(line) = entries.lines().find(|line| line.starts_with("160000 ")) {
            let path = line.split('\t').nth(1).unwrap_or_default();
            bail!("{path} is a repository in this one");
        }
        run(&[
            &[
                "rm",
                "-r",
                "--cached",
                "--force",
                "--quiet",
                "--ignore-unmatch",
                "--",
            ],
            &ASIDE[..],
        ]
        .concat())?;
        let code = run(&["write-tree"])?;
        let committed = run(&["rev-parse", "HEAD^{tree}"])?;
        let mut about = run(&["log", "-1", "--format=%h (%s)"])?;
        if object != committed {
            about.push_str(", and changed files");
        }
        Ok(Self {
            object,
            code,
            about,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_tree_is_what_the_files_hold() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let repo = dir.path();
        let run = |words: &[&str]| {
            let who = ["-c", "user.name=x", "-c", "user.email=x@x.test"];
            output(git().current_dir(repo).args(who).args(words))
        };
        run(&["init", "--quiet"])?;
        fs::write(repo.join(".gitignore"), "built\n")?;
        fs::write(repo.join("file"), "one")?;
        run(&["add", "--all"])?;
        run(&["commit", "--quiet", "--message=a subject"])?;
        let first = Tree::of(repo)?;
        assert!(first.about.ends_with(" (a subject)"), "{}", first.about);
        fs::write(repo.join("built"), "by make")?;
        assert_eq!(Tree::of(repo)?, first);

        fs::write(repo.join("file"), "two")?;
        let changed = Tree::of(repo)?;
        assert_ne!(changed.object, first.object);
        assert!(changed.about.ends_with(", and changed files"));
        fs::write(repo.join("file"), "one")?;
        assert_eq!(Tree::of(repo)?, first);

        // A sentence is no code.
        fs::write(repo.join("README.md"), "text")?;
        let described = Tree::of(repo)?;
        assert_ne!(described.object, first.object);
        assert_eq!(described.code, first.code);
        assert_ne!(changed.code, first.code);
        fs::remove_file(repo.join("README.md"))?;

        fs::write(repo.join("new"), "")?;
        assert_ne!(Tree::of(repo)?.object, first.object);
        assert_eq!(run(&["diff", "--cached", "--name-only"])?, "");
        assert!(run(&["cat-file", "-t", &changed.object]).is_err(), "stored");
        let stored = Tree::stored(repo)?;
        assert_eq!(run(&["cat-file", "-t", &stored.object])?, "tree\n");

        output(
            git()
                .current_dir(repo)
                .args(["clone", "--quiet", ".", "inner"]),
        )?;
        let error = Tree::of(repo).map(drop).unwrap_err().to_string();
        assert!(error.contains("inner is a repository"), "{error}");
        Ok(())
    }
}
