// SPDX-License-Identifier: GPL-2.0

//! A kernel tree that grows with each step of a recipe. It has only the files that the
//! series changes or adds.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::recipe::Step;
use crate::files;
use crate::files::copy;
use crate::progress::output;

/// The header that the kernel's bindings are made of.
const BINDINGS: &str = "rust/bindings/bindings_helper.h";

/// What bindgen is told of it.
const PARAMETERS: &str = "rust/bindgen_parameters";

/// What differs between a file in the clone and in a kernel tree, as a script of sed.
const IN_TREE: &str = "xtask/series/in-tree.sed";

/// Below which directory each file has to be in a patch.
const COMPLETE: &str = "fs/composefs";

/// The tree.
pub struct Tree<'a> {
    /// The clone.
    repo: &'a Path,
    /// The kernel that the series is for.
    source: &'a Path,
    /// Where the tree is made.
    dir: &'a Path,
    /// Files of the clone that a step has named.
    named: BTreeSet<PathBuf>,
}

impl<'a> Tree<'a> {
    /// An empty tree in `dir`.
    pub fn new(repo: &'a Path, source: &'a Path, dir: &'a Path) -> Self {
        Self {
            repo,
            source,
            dir,
            named: BTreeSet::new(),
        }
    }

    /// Copies the files of the kernel that a step changes, as they are before it.
    ///
    /// # Errors
    ///
    /// When the kernel does not have one.
    pub fn prepare(&self, step: &Step) -> Result<()> {
        let files: &[&str] = match step {
            Step::Edit { file, .. } => &[file],
            Step::Bindings { .. } => &[BINDINGS, PARAMETERS],
            Step::Copy { .. } | Step::Root { .. } | Step::Leave { .. } => &[],
        };
        files
            .iter()
            .try_for_each(|file| copy(&self.source.join(file), &self.dir.join(file)))
    }

    /// Takes a step.
    ///
    /// # Errors
    ///
    /// When a file is missing, or the kernel's is not as the step expects it.
    pub fn take(&mut self, step: &Step, author: &str) -> Result<()> {
        match step {
            Step::Copy { from, to } => self.add(from, to).map(drop),
            Step::Root { from, to } => {
                for file in self.add(from, to)? {
                    let text = fs::read_to_string(&file)?;
                    fs::write(&file, without_missing(&text, &modules_of(&file)))?;
                }
                Ok(())
            }
            Step::Bindings { from } => {
                let ours = self.read(from)?;
                self.change(BINDINGS, |text| Ok(merge_bindings(text, &ours)))?;
                self.change(PARAMETERS, |text| Ok(block_constants(text, &ours)))
            }
            Step::Edit { file, hunk } => self.change(file, |text| hunk.apply(text, author)),
            Step::Leave { path } => {
                self.named.extend(files::of_clone(self.repo, path)?);
                Ok(())
            }
        }
    }

    /// Fails if a source file of the module is in no patch.
    ///
    /// # Errors
    ///
    /// As said.
    pub fn check_complete(&self) -> Result<()> {
        let missing: Vec<String> = files::of_clone(self.repo, COMPLETE)?
            .iter()
            .filter(|file| !self.named.contains(*file))
            .map(|file| file.display().to_string())
            .collect();
        if !missing.is_empty() {
            bail!(
                "no file of xtask/series says which patch has {}",
                missing.join(", ")
            );
        }
        Ok(())
    }

    /// Copies a file or a directory of the clone. Returns the files that it made.
    fn add(&mut self, from: &str, to: &str) -> Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        for file in files::of_clone(self.repo, from)? {
            let inside = file.strip_prefix(from)?;
            let target = match inside.as_os_str().is_empty() {
                true => self.dir.join(to),
                false => self.dir.join(to).join(inside),
            };
            copy(&self.repo.join(&file), &target)?;
            made.push(target);
            self.named.insert(file);
        }
        output(
            Command::new("sed")
                .args(["--in-place", "--regexp-extended", "--file"])
                .arg(self.repo.join(IN_TREE))
                .args(&made),
        )?;
        Ok(made)
    }

    /// A file of the clone, as it would be in the kernel.
    fn read(&mut self, file: &str) -> Result<String> {
        self.named.insert(PathBuf::from(file));
        output(
            Command::new("sed")
                .args(["--regexp-extended", "--file"])
                .arg(self.repo.join(IN_TREE))
                .arg(self.repo.join(file)),
        )
    }

    fn change(&self, file: &str, change: impl Fn(&str) -> Result<String>) -> Result<()> {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).with_context(|| file.to_owned())?;
        let text = change(&text).with_context(|| file.to_owned())?;
        fs::write(&path, text).with_context(|| file.to_owned())
    }
}

/// The directory in which the modules of a Rust file are.
fn modules_of(file: &Path) -> PathBuf {
    let is_root = file
        .file_stem()
        .is_some_and(|stem| stem == "mod" || stem.to_string_lossy().ends_with("_main"));
    match is_root {
        true => file.parent().unwrap_or(file).to_owned(),
        false => file.with_extension(""),
    }
}

/// The text of a Rust file without the modules that `dir` does not have. The lines before
/// a `mod` line that begin with `#` or `///` go with it.
fn without_missing(text: &str, dir: &Path) -> String {
    let (mut kept, mut pending) = (String::new(), String::new());
    for line in text.split_inclusive('\n') {
        if line.starts_with('#') || line.starts_with("///") {
            pending.push_str(line);
            continue;
        }
        if !is_missing(line, dir) {
            kept.push_str(&pending);
            kept.push_str(line);
        }
        pending.clear();
    }
    kept + &pending
}

fn is_missing(line: &str, dir: &Path) -> bool {
    let line = line.trim_end();
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let module = line
        .strip_prefix("mod ")
        .and_then(|rest| rest.strip_suffix(';'));
    module.is_some_and(|name| !dir.join(format!("{name}.rs")).exists() && !dir.join(name).exists())
}

/// Adds includes in the place that their names have among the others, and constants
/// behind the last one. Neither is added twice.
fn merge_bindings(text: &str, ours: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    for include in ours.lines().filter(|l| l.starts_with("#include <")) {
        if lines.contains(&include) {
            continue;
        }
        let is_behind = |line: &&str| line.starts_with("#include <linux/") && *line < include;
        let at = lines.iter().rposition(is_behind).map_or(0, |at| at + 1);
        lines.insert(at, include);
    }
    let mut constants = ours
        .lines()
        .skip_while(|line| !line.starts_with("const "))
        .peekable();
    if constants.peek().is_some() {
        let is_constant = |line: &&str| line.starts_with("const ");
        let outside = |line: &&str| line.starts_with("#if ");
        let first = lines.iter().position(is_constant).unwrap_or(lines.len());
        let end = lines
            .iter()
            .skip(first)
            .position(outside)
            .map_or(lines.len(), |at| first + at);
        let block: Vec<&str> = constants.chain([""]).collect();
        lines.splice(end..end, block);
    }
    lines.join("\n") + "\n"
}

/// Blocks the macros of the same name as a constant of ours: some versions of bindgen see
/// them, and would define them a second time.
fn block_constants(parameters: &str, ours: &str) -> String {
    const BLOCK: &str = "--blocklist-item ";
    const PREFIX: &str = "RUST_CONST_HELPER_";
    let mut lines: Vec<String> = parameters.lines().map(str::to_owned).collect();
    let last = lines.iter().rposition(|line| line.starts_with(BLOCK));
    let at = last.map_or(lines.len(), |at| at + 1);
    let constants = ours
        .lines()
        .filter(|line| line.starts_with("const "))
        .filter_map(|line| line.split_once(PREFIX)?.1.split_whitespace().next());
    lines.splice(at..at, constants.map(|name| format!("{BLOCK}{name}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_are_not_there_are_left_out() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("here.rs"), "")?;
        let text = "//! Text.\n\npub mod here;\n#[cfg(a)]\nmod gone;\n#[b]\nfn f() {}\n";
        let kept = "//! Text.\n\npub mod here;\n#[b]\nfn f() {}\n";
        assert_eq!(without_missing(text, dir.path()), kept);
        Ok(())
    }

    #[test]
    fn a_root_has_its_modules_beside_it() {
        assert_eq!(modules_of(Path::new("a/mod.rs")), Path::new("a"));
        assert_eq!(modules_of(Path::new("a/b_main.rs")), Path::new("a"));
        assert_eq!(modules_of(Path::new("a/b.rs")), Path::new("a/b"));
    }

    #[test]
    fn macros_that_are_constants_are_blocked() {
        let kernel = "--blocklist-item A\n\n--opaque-type b\n";
        let ours = "#include <c.h>\nconst int RUST_CONST_HELPER_D = D;\n";
        let blocked = "--blocklist-item A\n--blocklist-item D\n\n--opaque-type b\n";
        assert_eq!(block_constants(kernel, ours), blocked);
    }

    #[test]
    fn bindings_are_added_in_order_and_once() {
        let kernel = "#include <kunit/test.h>\n#include <linux/a.h>\n#include <linux/c.h>\n\n\
            const int A = 1;\n\n#if X\nconst int B = 2;\n#endif\n";
        let ours = "#include <linux/c.h>\n#include <linux/b.h>\n\nconst int C = 3;\n";
        let merged = "#include <kunit/test.h>\n#include <linux/a.h>\n#include <linux/b.h>\n\
            #include <linux/c.h>\n\nconst int A = 1;\n\nconst int C = 3;\n\n\
            #if X\nconst int B = 2;\n#endif\n";
        assert_eq!(merge_bindings(kernel, ours), merged);
    }
}
