// SPDX-License-Identifier: GPL-2.0

//! The disk with images and their objects for the tests, which
//! scripts/make-fixtures makes in the guest.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::cache::Key;
use crate::context::Context;
use crate::guest_disk;
use crate::guest_disk::Recipe;
use crate::kernel::Target;
use crate::vm::Disk;

/// Makes the disk unless the cache has it, for the kernel `target`.
///
/// # Errors
///
/// When a tool cannot be built or the guest fails.
pub fn make(context: &Context, target: impl Into<Target>) -> Result<Disk> {
    let scripts = context.repo.join("scripts");
    let selftests = context.repo.join("tests/selftests");
    let mut key = Key::default();
    for script in [
        scripts.join("make-fixtures"),
        selftests.join("lib/program_tree.py"),
        selftests.join("lib/special_tree.py"),
    ] {
        key = key.with("script", fs::read(script)?);
    }
    guest_disk::make(
        context,
        target,
        Recipe {
            kind: "fixtures",
            about: "making images for the tests, in the guest",
            size: 4 << 30,
            command: "PYTHONPATH=/mnt/selftests python3 -B /mnt/scripts/make-fixtures \
                      \"$CFSCTL\" \"$DISK\""
                .to_owned(),
            cfsctl: true,
            disks: Vec::new(),
            mounts: vec![
                ("scripts".to_owned(), scripts),
                ("selftests".to_owned(), selftests),
            ],
            timeout: Duration::from_secs(3600),
            key,
        },
    )
}
