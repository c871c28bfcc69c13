// SPDX-License-Identifier: GPL-2.0

//! A patch of tests/defects, and the lines of tests that fail.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;

/// A defect: a patch whose first lines say what it is about.
#[derive(Debug)]
pub struct Defect {
    /// The name of the file, without `.patch`.
    pub name: String,
    /// The patch.
    pub path: PathBuf,
    /// `Breaks:` what the defect is.
    pub breaks: String,
    /// `Test:` the test that finds it: "image" for the tests of the parser on the host, else an
    /// argument of `cargo xtask test`.
    pub test: String,
    /// `Red:` a text in the output of the test that fails.
    pub red: String,
}

impl Defect {
    fn new(path: PathBuf, text: &str) -> Result<Self> {
        let field = |name: &str| {
            let mut lines = text.lines().take_while(|line| !line.is_empty());
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let value = value.map(|value| value.trim().to_owned());
            value.with_context(|| format!("{} has no line \"{name}:\"", path.display()))
        };
        let name = path.file_stem().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            breaks: field("Breaks")?,
            test: field("Test")?,
            red: field("Red")?,
            path,
        })
    }
}

/// All defects, by name.
///
/// # Errors
///
/// When there is no patch, or a patch cannot be read.
pub fn all(context: &Context) -> Result<Vec<Defect>> {
    let dir = context.repo.join("tests/defects");
    let mut paths: Vec<PathBuf> = fs::read_dir(&dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_patch(path))
        .collect();
    paths.sort();
    if paths.is_empty() {
        bail!("{} has no patches", dir.display());
    }
    let read = |path: PathBuf| {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Defect::new(path, &text)
    };
    paths.into_iter().map(read).collect()
}

fn is_patch(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "patch")
}

/// The lines about tests that failed, and why they did: in the output of `cargo xtask test` and
/// of `cargo test`.
pub fn red_lines(said: &str) -> Vec<&str> {
    let mut red = Vec::new();
    let mut failed = false;
    for line in said.lines() {
        if line.starts_with("FAIL ") || line.starts_with("test ") && line.ends_with("... FAILED") {
            failed = true;
        } else if !line.starts_with(' ') {
            failed = false;
        }
        if failed {
            red.push(line);
        }
    }
    red
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_what_finds_it() -> Result<()> {
        let text = "Breaks: a check\nTest:   selftests:readdir\nRed: a text\n\nTest: no\n";
        let defect = Defect::new("x/01-a.patch".into(), text)?;
        assert_eq!(defect.name, "01-a");
        assert_eq!(defect.breaks, "a check");
        assert_eq!(defect.test, "selftests:readdir");
        assert_eq!(defect.red, "a text");
        let error = Defect::new("x/01-a.patch".into(), "Breaks: a\nTest: b\n\nRed: c\n");
        let error = error.map_err(|error| error.to_string());
        assert_eq!(
            error.err().as_deref(),
            Some("x/01-a.patch has no line \"Red:\"")
        );
        Ok(())
    }

    #[test]
    fn reasons_belong_to_the_test_that_failed() {
        let said = "ok   a: one\n       not this\nFAIL a: two\n       because\nok   a: three\n\
                    test b::c ... FAILED\ntest b::d ... ok\n";
        assert_eq!(
            red_lines(said),
            ["FAIL a: two", "       because", "test b::c ... FAILED"]
        );
    }
}
