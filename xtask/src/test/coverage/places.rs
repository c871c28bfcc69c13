// SPDX-License-Identifier: GPL-2.0

//! Places in the code of the module: where its basic blocks begin.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;

/// A set of places: offsets in the section .text.
pub type Places = BTreeSet<u32>;

/// Reads places: a line has one, in hexadecimal digits.
///
/// # Errors
///
/// When the file cannot be read.
pub fn read(path: &Path) -> Result<Places> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let places = text
        .lines()
        .filter_map(|line| u32::from_str_radix(line, 16).ok());
    Ok(places.collect())
}

/// Writes them.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, places: &Places) -> Result<()> {
    let text: String = places.iter().map(|place| format!("{place:x}\n")).collect();
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
