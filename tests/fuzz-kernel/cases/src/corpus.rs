// SPDX-License-Identifier: GPL-2.0

//! Directories of cases: the corpus, and cases that fail.

use std::fs;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

use crate::case::Case;

/// The end of the names of their files.
const END: &str = "case";

/// The cases in a directory, and their files. One that cannot be read, such as one of another
/// grammar, is left out.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn read(dir: &Path) -> Result<Vec<(PathBuf, Case)>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == END));
    paths.sort();
    let read = |path: PathBuf| Some((path.clone(), one(&path).ok()?));
    Ok(paths.into_iter().filter_map(read).collect())
}

/// Reads a case.
///
/// # Errors
///
/// When it cannot be read.
pub fn one(path: &Path) -> Result<Case> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Case::parse(&text).with_context(|| path.display().to_string())
}

/// Writes a case, with a comment. Returns its file.
///
/// # Errors
///
/// When it cannot be written.
pub fn write(dir: &Path, case: &Case, comment: &str) -> Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let mut hasher = DefaultHasher::new();
    case.hash(&mut hasher);
    let path = dir.join(format!("{:016x}.{END}", hasher.finish()));
    let mut text = String::new();
    for line in comment.lines() {
        text.push_str(&format!("# {line}\n"));
    }
    text.push_str(&case.to_string());
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
