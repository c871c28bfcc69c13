// SPDX-License-Identifier: GPL-2.0

//! Keeping the images with which something went wrong.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::progress::output;
use crate::progress::say;

/// Makes the images again that were in use when the guest ended, one for each thread,
/// from the guest's notes. Returns a description of them.
///
/// # Errors
///
/// When there are no notes, or the program fails.
pub fn again(program: &Path, share: &Path, kept: &Path) -> Result<String> {
    let notes = fs::read_to_string(share.join("current")).context("the guest left no notes")?;
    fs::create_dir_all(kept)?;
    let images = images(share)?;
    let mut said = String::new();
    for note in notes.lines() {
        // The notes of a thread that had not begun are zeros.
        let mut words = note.trim_start_matches('\0').split_whitespace();
        let (Some(seed), Some(index)) = (words.next(), words.next()) else {
            bail!("the guest's note is not a seed and an index: {note:?}");
        };
        let path = kept.join(format!("seed-{seed}-index-{index}.cfs"));
        let mut program = Command::new(program);
        program.args(["--seed", seed, "--index", index, "--write"]);
        said.push_str(&output(program.arg(path).args(&images))?);
    }
    Ok(said)
}

/// The images that all others were made of, in the order of the guest's shell.
fn images(share: &Path) -> Result<Vec<PathBuf>> {
    let mut images = files(&share.join("images"))?;
    images.sort();
    Ok(images)
}

/// Copies the images that the guest found wrong to `kept`.
///
/// # Errors
///
/// When one cannot be read or written.
pub fn keep(share: &Path, kept: &Path) -> Result<()> {
    for file in files(share)? {
        if let Some(name) = file.file_name() {
            fs::create_dir_all(kept)?;
            let copy = kept.join(name);
            fs::copy(&file, &copy)?;
            say(&format!("xtask: the image is kept as {}", copy.display()));
        }
    }
    Ok(())
}

/// The images in a directory, in no order.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cfs"))
        .collect())
}
