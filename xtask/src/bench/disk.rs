// SPDX-License-Identifier: GPL-2.0

//! The disk with the image to measure and its objects.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::cache::Key;
use crate::context::Context;
use crate::guest_disk;
use crate::guest_disk::Recipe;
use crate::kernel::Target;
use crate::vm::Disk;

/// The package in tests/bench, and its program, which runs in the guest.
pub const PROGRAM: &str = "composefs-bench";

/// Makes the disk unless the cache has it. `program` is the directory with [`PROGRAM`].
///
/// # Errors
///
/// When a tool cannot be built or the guest fails.
pub fn make(context: &Context, target: Target, program: &Path) -> Result<Disk> {
    let sources = context.repo.join("tests/bench/src");
    let prepare = sources.join("bin/composefs-bench/prepare.rs");
    guest_disk::make(
        context,
        target,
        Recipe {
            kind: "bench",
            about: "making the image to measure, in the guest",
            size: 1 << 30,
            command: format!("/mnt/program/{PROGRAM} prepare \"$CFSCTL\" \"$DISK\""),
            cfsctl: true,
            disks: Vec::new(),
            mounts: vec![("program".to_owned(), program.to_path_buf())],
            timeout: Duration::from_secs(1800),
            key: Key::default()
                .with("random", fs::read(sources.join("random.rs"))?)
                .with("prepare", fs::read(prepare)?),
        },
    )
}
