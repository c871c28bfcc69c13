// SPDX-License-Identifier: GPL-2.0

//! Disks that a command in the guest fills, where there is fs-verity. They are made
//! once and kept in the cache.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::cache::Key;
use crate::context::Context;
use crate::guest;
use crate::guest::System;
use crate::kernel::Target;
use crate::progress::Step;
use crate::progress::tail;
use crate::tools;
use crate::vm;
use crate::vm::Disk;
use crate::vm::Job;
use crate::vm::VmConfig;

/// How to make a disk.
pub struct Recipe {
    /// What its cache entry and logs are called.
    pub kind: &'static str,
    /// What is being done, for the progress line.
    pub about: &'static str,
    /// Size in bytes. The disk is sparse: only what is written counts.
    pub size: u64,
    /// The command in the guest. `$DISK` is where the disk is mounted, and `$FACTS` a directory
    /// of the host for what it has to say.
    pub command: String,
    /// Whether `$CFSCTL` is a program that makes images. It is built from crates.io.
    pub cfsctl: bool,
    /// More disks, /dev/vdd and on in the guest.
    pub disks: Vec<Disk>,
    /// Directories of the host, at /mnt/NAME in the guest.
    pub mounts: Vec<(String, PathBuf)>,
    /// How long the command may take.
    pub timeout: Duration,
    /// What the content depends on, besides the guest, cfsctl and the fields above.
    pub key: Key,
}

/// Makes the disk unless the cache has it. Its content does not depend on the kernel, so `target`,
/// which is going to read it, is used.
///
/// # Errors
///
/// When a tool cannot be built, or the command or the guest fails.
pub fn make(context: &Context, target: impl Into<Target>, recipe: Recipe) -> Result<Disk> {
    let target = target.into().for_disks();
    let arch = target.machine.arch();
    let cfsctl = recipe
        .cfsctl
        .then(|| tools::cfsctl(context, arch))
        .transpose()?;
    let guest = guest::make(context, System::Usual, arch)?;
    let mut key = recipe.key;
    if let Some(cfsctl) = &cfsctl {
        key = key.with("cfsctl", cfsctl.as_os_str().as_encoded_bytes());
    }
    let key = key
        .with("guest", guest.root.as_os_str().as_encoded_bytes())
        .with("size", recipe.size.to_string())
        .with("command", &recipe.command);
    let dir = context.cache.made(recipe.kind, &key.finish(), |dir| {
        let script = format!(
            "set -e\n\
             export DISK=/run/disk CFSCTL=/mnt/tools/cfsctl FACTS=/mnt/share\n\
             mkdir $DISK\n\
             mount /dev/vdc $DISK\n\
             {}\n\
             umount $DISK\n",
            recipe.command
        );
        let job = Job::Command(vec![script]);
        let mut config = VmConfig::prepare(context, target, false, job)?;
        let log = context.cache.log(recipe.kind);
        let step = Step::begin(recipe.about, &log)?;
        let file = dir.join(NAME);
        guest::verity_disk(&step, &file, recipe.size)?;
        config.disks = vec![Disk { file, keep: true }];
        config.disks.extend(recipe.disks);
        config.mounts = recipe.mounts;
        let share = dir.join(SHARE);
        fs::create_dir(&share)?;
        config.share = Some(share);
        if let Some(cfsctl) = &cfsctl {
            let tools = cfsctl.parent().context("cfsctl is in no directory")?;
            config
                .mounts
                .push(("tools".to_owned(), tools.to_path_buf()));
        }
        // Nothing mounts composefs here, and an image of the guest's tree is not to depend on it.
        config.mount_helper = None;
        config.timeout = Some(recipe.timeout);
        config.log_name = format!("{}-console", recipe.kind);
        let outcome = vm::run(context, &config, &mut |_, bytes| step.note(bytes))?;
        match &outcome.result {
            Ok(0) => step.done(),
            Ok(status) => bail!(
                "{} failed: the command in the guest ended with status {status}:\n{}\n\
                 The whole log: {}",
                recipe.about,
                tail(&log, 25),
                log.display()
            ),
            Err(failure) => bail!("{} failed: {}", recipe.about, outcome.explain(failure)),
        }
        Ok(())
    })?;
    Ok(Disk {
        file: dir.join(NAME),
        keep: false,
    })
}

/// The directory with what the command wrote to `$FACTS` about a disk that [`make`] made.
pub fn facts(disk: &Disk) -> PathBuf {
    disk.file.with_file_name(SHARE)
}

/// The disk image in its cache entry, and the directory that is shared with the guest.
const NAME: &str = "disk.img";
const SHARE: &str = "share";
