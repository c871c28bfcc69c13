// SPDX-License-Identifier: GPL-2.0

//! The boot with composefs-readahead: a disk with a list and objects in its order, and an
//! initramfs that reads it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;

use super::machine;
use crate::boot::Image;
use crate::boot::Stack;
use crate::cache::Key;
use crate::context::Context;
use crate::files;
use crate::guest_program;
use crate::progress::Step;
use crate::vm::Disk;
use crate::vm::VmConfig;

/// The program and its package.
const PROGRAM: &str = "composefs-readahead";

/// Makes an archive with the program and its unit.
const ARCHIVE: &str = r#"
set -e
program=$1 unit=$2 image=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
units=$work/usr/lib/systemd/system
mkdir -p "$work/usr/bin" "$units/initrd.target.wants"
cp "$program" "$work/usr/bin/"
cp "$unit" "$units/"
ln -s "../$(basename "$unit")" "$units/initrd.target.wants/"
(cd "$work" && find . -mindepth 1 | LC_ALL=C sort |
	cpio --quiet --create --format=newc --owner=0:0) >>"$image"
"#;

/// Records what the boot has read, and puts it next to each other.
const RECORD: &str = "set -e\n\
    cat /sys/kernel/tracing/trace >/run/trace\n\
    run=/mnt/share/composefs-readahead store=/run/initramfs/store\n\
    $run record --trace /run/trace $store/composefs/objects $store/composefs-readahead\n\
    $run order $store/composefs/objects $store/composefs-readahead\n";

/// The parts.
pub struct Ahead {
    disk: PathBuf,
    initramfs: PathBuf,
}

impl Ahead {
    /// Makes them for an image unless the cache has them: this takes a boot.
    ///
    /// # Errors
    ///
    /// When one cannot be made.
    pub fn prepare(context: &Context, image: Image) -> Result<Self> {
        let programs = guest_program::build(context, PROGRAM)?;
        let program = programs.join(PROGRAM);
        let unit = context
            .repo
            .join("packaging/readahead/composefs-readahead.service");
        let mut boot = machine::prepare(context, Stack::Composefs, image, RECORD)?;
        let initramfs = boot
            .config
            .kernel
            .initramfs
            .clone()
            .context("the kernel has no initramfs")?;
        let key = Key::default()
            .with("disk", boot.config.root.file.as_os_str().as_encoded_bytes())
            .with("initramfs", initramfs.as_os_str().as_encoded_bytes())
            .with("image", image.name())
            .with("program", fs::read(&program)?)
            .with("unit", fs::read(&unit)?)
            .with("scripts", format!("{ARCHIVE}{RECORD}"));
        let dir = context.cache.made("bench-boot", &key.finish(), |dir| {
            let log = context.cache.log("bench-boot");
            let step = Step::begin("making the initramfs that reads ahead", &log)?;
            let new = dir.join(INITRAMFS);
            fs::copy(&initramfs, &new)?;
            let mut archive = Command::new("sh");
            archive.args(["-c", ARCHIVE, "sh"]).arg(&program);
            step.run(archive.arg(&unit).arg(&new))?;
            step.done();

            let disk = dir.join(DISK);
            files::copy_sparse(&boot.config.root.file, &disk)?;
            boot.config.root = Disk {
                file: disk,
                keep: true,
            };
            boot.config.share = Some(programs.clone());
            boot.config.append.extend(
                [
                    "trace_event=filemap:mm_filemap_add_to_page_cache",
                    "trace_buf_size=16M",
                ]
                .map(str::to_owned),
            );
            machine::run(context, &boot.config, "recording what a boot reads")?;
            Ok(())
        })?;
        Ok(Self {
            disk: dir.join(DISK),
            initramfs: dir.join(INITRAMFS),
        })
    }

    /// Makes a boot use them.
    pub fn apply(&self, config: &mut VmConfig) {
        config.root = disk(&self.disk);
        config.kernel.initramfs = Some(self.initramfs.clone());
    }
}

fn disk(file: &Path) -> Disk {
    Disk {
        file: file.to_path_buf(),
        keep: false,
    }
}

/// The files in the cache entry.
const DISK: &str = "disk.img";
const INITRAMFS: &str = "initramfs.cpio";
