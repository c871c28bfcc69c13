// SPDX-License-Identifier: GPL-2.0

//! The patches with which composefs goes into a kernel tree: a series that can
//! be mailed, and that the guest's patched kernel is built from.

mod recipe;
mod tree;

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use self::recipe::Recipe;
use self::tree::Tree;
use crate::context::Context;
use crate::files;
use crate::git::git;
use crate::progress::output;

/// Where the messages and steps of the patches are. The first file, in the order of their
/// names, is the cover letter.
const SERIES: &str = "xtask/series";

/// How many lines a patch may add: what can be reviewed in one sitting.
const LONGEST: usize = 1150;

/// Words that are about the clone.
const NOT_IN_TREE: [&str; 3] = ["cargo", "xtask", "threat-model"];

/// The line of a patch that says that it may be replaced.
const MARK: &str = "X-Mailer: cargo xtask patches";

/// `cargo xtask patches`: writes the series to a directory.
///
/// # Errors
///
/// As [`make`].
pub fn run(context: &Context, source: &Path, dir: &Path) -> Result<()> {
    for patch in make(context, source, dir)? {
        println!("{}", patch.display());
    }
    Ok(())
}

/// Makes the series for the kernel at `source`, in a directory where nothing but
/// an older series is. Returns the patches in their order, the cover letter first.
/// The same clone gives the same bytes.
///
/// # Errors
///
/// When the directory has other patches, the kernel has not the lines that ours
/// go by, or git fails.
pub fn make(context: &Context, source: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let old = series(dir)?;
    if let Some(other) = old.iter().find(|patch| !is_ours(patch)) {
        bail!(
            "{} is no patch of ours; name another directory",
            other.display()
        );
    }
    let work = context.cache.run_dir()?;
    let made = work.path().join("series");
    write(context, source, &work.path().join("tree"), &made)?;
    for path in old {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    for path in series(&made)? {
        let name = path.file_name().context("a patch without a name")?;
        fs::copy(&path, dir.join(name)).with_context(|| format!("to {}", dir.display()))?;
    }
    series(dir)
}

/// Applies the patches of a series, without its cover letter, one after another to the
/// files of the kernel at `source`, as a maintainer does.
///
/// # Errors
///
/// When git does not apply one, one has more than [`LONGEST`] new lines, or one speaks of
/// what only the clone has.
pub fn check(context: &Context, source: &Path, patches: &[PathBuf]) -> Result<()> {
    let work = context.cache.run_dir()?;
    let dir = work.path();
    let git = Git::new(context, dir)?;
    for patch in patches {
        for file in changed(&fs::read_to_string(patch)?) {
            files::copy(&source.join(file), &dir.join(file)).or_else(|error| {
                // It may be one that an earlier patch has added.
                match source.join(file).exists() {
                    true => Err(error),
                    false => Ok(()),
                }
            })?;
        }
    }
    git.run(&["init", "--quiet", "--initial-branch=composefs"])?;
    git.commit("the kernel")?;
    for patch in patches {
        let name = patch.display().to_string();
        git.run(&["am", "--quiet", &name])?;
        let text = fs::read_to_string(patch)?;
        let added: Vec<&str> = added(&text).collect();
        if added.len() > LONGEST {
            bail!("{name} adds {} lines, more than {LONGEST}", added.len());
        }
        let is_foreign = |line: &&&str| NOT_IN_TREE.iter().any(|word| line.contains(word));
        if let Some(line) = added.iter().find(is_foreign) {
            bail!("{name} speaks of what is not in the tree: {line}");
        }
    }
    Ok(())
}

/// The files that a patch changes and does not add.
fn changed(patch: &str) -> impl Iterator<Item = &str> {
    patch.lines().filter_map(|line| line.strip_prefix("--- a/"))
}

/// The lines that a patch adds.
fn added(patch: &str) -> impl Iterator<Item = &str> {
    patch
        .lines()
        .filter(|line| line.starts_with('+') && !line.starts_with("+++ "))
}

/// Whether a file is of an older series.
fn is_ours(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line == MARK))
}

/// Makes the series in a new repository of the files that it changes.
fn write(context: &Context, source: &Path, dir: &Path, made: &Path) -> Result<()> {
    let recipes = Recipe::all(&context.repo.join(SERIES))?;
    let [cover, patches @ ..] = &recipes[..] else {
        bail!("{SERIES} is empty");
    };
    fs::create_dir(dir)?;
    let git = Git::new(context, dir)?;
    let mut tree = Tree::new(&context.repo, source, dir);
    for step in patches.iter().flat_map(|patch| &patch.steps) {
        tree.prepare(step)?;
    }
    git.run(&["init", "--quiet", "--initial-branch=composefs"])?;
    git.run(&["config", "branch.composefs.description", &cover.message])?;
    git.run(&["config", "format.headers", MARK])?;
    git.commit("the kernel")?;
    git.run(&["tag", "kernel"])?;
    for step in &cover.steps {
        tree.take(step, "")?;
    }
    for patch in patches {
        for step in &patch.steps {
            tree.take(step, &git.author())
                .with_context(|| patch.subject().to_owned())?;
        }
        git.commit(&patch.message)?;
    }
    tree.check_complete()?;
    git.run(&[
        "format-patch",
        "--quiet",
        "--cover-letter",
        "--cover-from-description=auto",
        "--no-signature",
        "--zero-commit",
        "--output-directory",
        &made.to_string_lossy(),
        "kernel",
    ])
}

/// The patches that are in a directory, in their order.
fn series(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "patch"))
        .collect();
    found.sort();
    Ok(found)
}

/// A repository that is made for the series.
struct Git<'a> {
    tree: &'a Path,
    /// Whose patches they are, and when: as the clone's last commit says.
    who: [(&'static str, String); 6],
}

impl<'a> Git<'a> {
    fn new(context: &Context, tree: &'a Path) -> Result<Self> {
        let last =
            output(
                git()
                    .current_dir(&context.repo)
                    .args(["log", "-1", "--format=%an%n%ae%n%aI"]),
            )?;
        let [name, mail, date] = last.lines().collect::<Vec<_>>()[..] else {
            bail!("the clone's last commit has no author");
        };
        let who = [
            ("GIT_AUTHOR_NAME", name),
            ("GIT_AUTHOR_EMAIL", mail),
            ("GIT_AUTHOR_DATE", date),
            ("GIT_COMMITTER_NAME", name),
            ("GIT_COMMITTER_EMAIL", mail),
            ("GIT_COMMITTER_DATE", date),
        ];
        Ok(Self {
            tree,
            who: who.map(|(variable, value)| (variable, value.to_owned())),
        })
    }

    fn author(&self) -> String {
        let [(_, name), (_, mail), ..] = &self.who;
        format!("{name} <{mail}>")
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        output(
            git()
                .current_dir(self.tree)
                // A person's own settings would change what comes out.
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_ATTR_NOSYSTEM", "1")
                .args(["-c", "core.attributesFile=/dev/null"])
                .envs(self.who.iter().map(|(variable, value)| (variable, value)))
                .args(arguments),
        )
        .map(drop)
    }

    fn commit(&self, message: &str) -> Result<()> {
        self.run(&["add", "--all", "--force"])?;
        self.run(&["commit", "--quiet", "--message", message])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_tells_its_files_and_lines() {
        let patch = "--- a/old\n+++ b/old\n context\n+new\n+\n--- /dev/null\n+++ b/new\n+one\n";
        assert_eq!(changed(patch).collect::<Vec<_>>(), ["old"]);
        assert_eq!(added(patch).collect::<Vec<_>>(), ["+new", "+", "+one"]);
    }

    #[test]
    fn patches_of_others_are_not_ours() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, "Subject: [PATCH] fix a typo\n")?;
        assert!(!is_ours(file.path()));
        fs::write(
            &file,
            format!("From: me\nSubject: [PATCH 1/5] add\n{MARK}\n"),
        )?;
        assert!(is_ours(file.path()));
        Ok(())
    }
}
