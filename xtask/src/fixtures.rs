// SPDX-License-Identifier: GPL-2.0

//! The disk with images and their objects for the tests, which
//! scripts/make-fixtures makes in the guest.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::cache::Key;
use crate::context::Context;
use crate::guest_disk;
use crate::guest_disk::Recipe;
use crate::vm::Disk;

/// Makes the disk unless the cache has it.
///
/// # Errors
///
/// When a tool cannot be built or the guest fails.
pub fn make(context: &Context) -> Result<Disk> {
    let scripts = context.repo.join("scripts");
    let mut key = Key::default();
    for script in makers(&scripts)? {
        key = key.with("script", fs::read(script)?);
    }
    guest_disk::make(
        context,
        Recipe {
            kind: "fixtures",
            about: "making images for the tests, in the guest",
            size: 4 << 30,
            command: "python3 -B /mnt/scripts/make-fixtures \"$CFSCTL\" \"$DISK\"".to_owned(),
            mounts: vec![("scripts".to_owned(), scripts)],
            timeout: Duration::from_secs(3600),
            key,
        },
    )
}

/// The scripts on which the content of the disk depends.
fn makers(scripts: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(scripts)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|ext| ext == "py") || path.ends_with("make-fixtures")
        })
        .collect();
    found.sort();
    Ok(found)
}
