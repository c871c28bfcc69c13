// SPDX-License-Identifier: GPL-2.0

//! Files of the clone, and copies of them.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::git::git;
use crate::progress::output;

/// The files of the clone at or below `path`, also new ones, but none that git ignores.
///
/// # Errors
///
/// When no file is found, or git fails.
pub fn of_clone(repo: &Path, path: &str) -> Result<Vec<PathBuf>> {
    let listed = output(
        git()
            .current_dir(repo)
            .args(["ls-files", "-z", "--cached", "--others", "--deduplicate"])
            .args(["--exclude-per-directory=.gitignore", "--", path]),
    )?;
    let files: Vec<PathBuf> = listed
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|file| repo.join(file).exists())
        .collect();
    if files.is_empty() {
        bail!("the clone has no {path}");
    }
    Ok(files)
}

/// Copies a file with its permissions. For a symbolic link, copies its target.
///
/// # Errors
///
/// When the file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {}", from.display()))
}

/// Copies a file that is mostly empty, as a disk image is.
///
/// # Errors
///
/// When the file cannot be read or written.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    output(
        Command::new("cp")
            .args(["--sparse=always", "--reflink=auto", "--"])
            .args([from, to]),
    )
    .map(drop)
}
