// SPDX-License-Identifier: GPL-2.0

//! What e2fsprogs says about a guest's disk.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use crate::path;

/// Runs a program of e2fsprogs on a disk. Returns what it prints.
///
/// # Errors
///
/// When it cannot be started or fails. The error has what it prints.
pub fn e2fs(program: &str, arguments: &[&str], disk: &Path) -> Result<String> {
    let done = Command::new(program)
        .env("PATH", path::with_sbin())
        .args(arguments)
        .arg(disk)
        .output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        bail!("{program}: {}\n{said}", done.status);
    }
    Ok(said)
}
