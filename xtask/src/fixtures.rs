// SPDX-License-Identifier: GPL-2.0

//! The test disk: real images and their objects, made once by
//! scripts/make-fixtures in the guest, where there is fs-verity.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::cache::Key;
use crate::context::Context;
use crate::guest;
use crate::kernel::Flavor;
use crate::progress::Step;
use crate::tools;
use crate::vm;
use crate::vm::Disk;
use crate::vm::Job;
use crate::vm::VmConfig;

/// Size of the disk. It is sparse: only what is written counts.
const SIZE: u64 = 4 << 30;

/// Where a guest that has the disk as its first one mounts it.
pub const MOUNT_POINT: &str = "/run/fixtures";

/// Makes the disk in the guest.
const MAKE: &str = r#"
set -e
mkdir /run/fixtures
mount /dev/vdc /run/fixtures
python3 -B /mnt/scripts/make-fixtures /mnt/tools/cfsctl /run/fixtures
umount /run/fixtures
"#;

/// A line of the shell that mounts the disk.
pub fn mount_command() -> String {
    format!("mkdir {MOUNT_POINT} && mount /dev/vdc {MOUNT_POINT}")
}

/// Makes the disk unless it is there.
///
/// # Errors
///
/// When a tool cannot be built or the guest fails.
pub fn make(context: &Context) -> Result<Disk> {
    let cfsctl = tools::cfsctl(context)?;
    let guest = guest::make(context)?;
    let scripts = context.repo.join("scripts");
    let mut key = Key::default()
        .with("cfsctl", cfsctl.as_os_str().as_encoded_bytes())
        .with("guest", guest.root.as_os_str().as_encoded_bytes())
        .with("size", SIZE.to_string())
        .with("make", MAKE);
    for script in makers(&scripts)? {
        key = key.with("script", fs::read(script)?);
    }
    let entry = context.cache.entry("fixtures", &key.finish());
    let disk = Disk {
        file: entry.path().join("fixtures.img"),
        keep: false,
    };
    if entry.is_complete() {
        return Ok(disk);
    }
    let mut config = VmConfig::prepare(
        context,
        Flavor::Plain,
        false,
        Job::Command(vec![MAKE.to_owned()]),
    )?;
    let _lock = context.cache.lock("fixtures")?;
    if entry.is_complete() {
        return Ok(disk);
    }
    entry.start_over()?;
    let log = context.cache.log("fixtures");
    let step = Step::begin("making images for the tests, in the guest", &log)?;
    guest::verity_disk(&step, &disk.file, SIZE)?;
    config.disks = vec![Disk {
        file: disk.file.clone(),
        keep: true,
    }];
    let tools = cfsctl.parent().context("no directory of cfsctl")?;
    config.mounts = vec![
        ("scripts".to_owned(), scripts),
        ("tools".to_owned(), tools.to_path_buf()),
    ];
    config.timeout = Some(Duration::from_secs(3600));
    config.log_name = "fixtures-console".to_owned();
    let outcome = vm::run(context, &config, &mut |_, bytes| step.note(bytes))?;
    match &outcome.result {
        Ok(0) => {}
        Ok(status) => bail!(
            "scripts/make-fixtures ended with status {status}:\n{}\nThe whole log: {}",
            crate::progress::tail(&log, 25),
            log.display()
        ),
        Err(failure) => bail!("making the images: {}", outcome.explain(failure)),
    }
    entry.complete()?;
    step.done();
    Ok(disk)
}

/// The scripts that decide what is on the disk.
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
