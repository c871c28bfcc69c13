// SPDX-License-Identifier: GPL-2.0

//! The disk with an image and its objects, made once in the guest.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::PROGRAM;
use crate::cache::Key;
use crate::context::Context;
use crate::guest;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::progress::Step;
use crate::tools;
use crate::vm;
use crate::vm::Disk;
use crate::vm::Job;
use crate::vm::VmConfig;

/// Size of the disk. It is sparse: only what is written counts.
const SIZE: u64 = 1 << 30;

/// Makes it in the guest.
const MAKE: &str = r#"
set -e
mkdir /run/blobs
mount /dev/vdc /run/blobs
/mnt/bench/composefs-bench prepare /mnt/tools/cfsctl /run/blobs
umount /run/blobs
"#;

/// The disk, made unless it is there.
///
/// # Errors
///
/// When a tool cannot be built or the guest fails.
pub fn blobs(context: &Context) -> Result<Disk> {
    let cfsctl = tools::cfsctl(context)?;
    let guest = guest::make(context)?;
    let sources = context.repo.join("tests/bench/src");
    let key = Key::default()
        .with("cfsctl", cfsctl.as_os_str().as_encoded_bytes())
        .with("guest", guest.root.as_os_str().as_encoded_bytes())
        .with("size", SIZE.to_string())
        .with("make", MAKE)
        .with("random", fs::read(sources.join("random.rs"))?)
        .with(
            "prepare",
            fs::read(sources.join("bin/composefs-bench/prepare.rs"))?,
        );
    let entry = context.cache.entry("bench", &key.finish());
    let disk = Disk {
        file: entry.path().join("blobs.img"),
        keep: false,
    };
    if entry.is_complete() {
        return Ok(disk);
    }
    let program = guest_program::build(context, PROGRAM)?;
    let mut config = VmConfig::prepare(
        context,
        Flavor::Plain,
        false,
        Job::Command(vec![MAKE.to_owned()]),
    )?;
    let _lock = context.cache.lock("bench")?;
    if entry.is_complete() {
        return Ok(disk);
    }
    entry.start_over()?;
    let log = context.cache.log("bench-disk");
    let step = Step::begin("making the image to measure, in the guest", &log)?;
    guest::verity_disk(&step, &disk.file, SIZE)?;
    config.disks = vec![Disk {
        file: disk.file.clone(),
        keep: true,
    }];
    let tools = cfsctl.parent().context("no directory of cfsctl")?;
    config.mounts = vec![
        ("bench".to_owned(), program),
        ("tools".to_owned(), tools.to_path_buf()),
    ];
    config.timeout = Some(Duration::from_secs(1800));
    config.log_name = "bench-disk-console".to_owned();
    let outcome = vm::run(context, &config, &mut |_, bytes| step.note(bytes))?;
    match &outcome.result {
        Ok(0) => {}
        Ok(status) => bail!(
            "{PROGRAM} prepare ended with status {status}:\n{}\nThe whole log: {}",
            crate::progress::tail(&log, 25),
            log.display()
        ),
        Err(failure) => bail!("making the image to measure: {}", outcome.explain(failure)),
    }
    entry.complete()?;
    step.done();
    Ok(disk)
}
