// SPDX-License-Identifier: GPL-2.0

//! An attacker who has the disk: a file of the store is replaced by one that differs in a byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::path;
use crate::progress::output;

/// Replaces a file on a disk with ext4 by one of the same size. The new one has no fs-verity.
///
/// # Errors
///
/// When the file is not on the disk, or debugfs fails.
pub fn replace(context: &Context, disk: &Path, name: &str) -> Result<()> {
    let dir = context.cache.run_dir()?;
    let local = dir.path().join("object");
    debugfs(disk, &format!("dump {name} {}", local.display()))?;
    let mut content = fs::read(&local).unwrap_or_default();
    let middle = content.len() / 2;
    let byte = content
        .get_mut(middle)
        .with_context(|| format!("{name} is not on the disk {}", disk.display()))?;
    *byte ^= 1;
    fs::write(&local, &content)?;
    let (parent, file) = name.rsplit_once('/').unwrap_or(("/", name));
    debugfs(disk, &format!("rm {name}"))?;
    debugfs(disk, &format!("write {} {parent}/{file}", local.display()))?;
    debugfs(disk, &format!("dump {name} {}", local.display()))?;
    if fs::read(&local)? != content {
        bail!("debugfs has not replaced {name} on {}", disk.display());
    }
    Ok(())
}

/// Gives an image of the store the name of another one.
///
/// # Errors
///
/// When debugfs fails.
pub fn link(disk: &Path, image: &str, name: &str) -> Result<()> {
    let said = debugfs(disk, &format!("symlink /composefs/images/{name} {image}"))?;
    let links = debugfs(disk, "ls /composefs/images")?;
    if !links.contains(name) {
        bail!(
            "debugfs has not made a link {name} on {}: {said}",
            disk.display()
        );
    }
    Ok(())
}

/// Gives a file or directory of a disk another name in the same directory.
///
/// # Errors
///
/// When debugfs fails.
pub fn rename(disk: &Path, dir: &str, old: &str, new: &str) -> Result<()> {
    let mut said = debugfs(disk, &format!("ln {dir}/{old} {dir}/{new}"))?;
    said += &debugfs(disk, &format!("unlink {dir}/{old}"))?;
    let names = debugfs(disk, &format!("ls {dir}"))?;
    let has = |name: &str| names.split_whitespace().any(|word| word == name);
    if has(old) || !has(new) {
        bail!(
            "debugfs has not renamed {dir}/{old} on {}: {said}",
            disk.display()
        );
    }
    Ok(())
}

/// Runs a line of debugfs(8), which ends with success whatever happens.
fn debugfs(disk: &Path, line: &str) -> Result<String> {
    output(
        Command::new("debugfs")
            .env("PATH", path::with_sbin())
            .args(["-w", "-R", line])
            .arg(disk),
    )
}
