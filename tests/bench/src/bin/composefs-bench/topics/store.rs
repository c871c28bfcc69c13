// SPDX-License-Identifier: GPL-2.0

//! A file system on a disk with a known latency: null_blk, whose requests take as long as it was
//! told, by the guest's clock.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Image;
use rustix::mount::UnmountFlags;
use rustix::mount::unmount;

use crate::disk::Disk;
use crate::prepare::enable_verity;
use crate::programs::run;

/// A kind of file system.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Makes one on a device.
    make: &'static [&'static str],
    /// Whether it has fs-verity.
    pub verity: bool,
}

/// The kind that most stores have.
pub const EXT4: Kind = Kind {
    name: "ext4",
    make: &["mkfs.ext4", "-q", "-O", "verity"],
    verity: true,
};

/// The kinds that objects are stored on.
pub const KINDS: [Kind; 3] = [
    EXT4,
    Kind {
        name: "xfs",
        make: &["mkfs.xfs", "-q"],
        verity: false,
    },
    Kind {
        name: "btrfs",
        make: &["mkfs.btrfs", "-q"],
        verity: true,
    },
];

/// A mounted one, unmounted when dropped.
pub struct Store {
    /// Where it is mounted.
    pub top: PathBuf,
    device: PathBuf,
}

impl Store {
    /// Makes one on the null_blk device of this number.
    pub fn new(kind: &Kind, number: usize) -> Result<Self> {
        let device = Path::new("/dev").join(format!("nullb{number}"));
        let top = Path::new("/run/bench/stores").join(kind.name);
        fs::create_dir_all(&top)?;
        let (program, options) = kind.make.split_first().context("no command")?;
        run(Command::new(program).args(options).arg(&device))?;
        run(Command::new("mount")
            .args(["-t", kind.name])
            .arg(&device)
            .arg(&top))?;
        Ok(Self { top, device })
    }

    /// Makes an image of a tree, with fs-verity, so that all mounts of it share a super block. Its
    /// objects are beside it, with those of other images.
    pub fn image(&self, tree: &Path, name: &str) -> Result<Image> {
        let image = Image {
            path: self.top.join(name).with_extension("cfs"),
            objects: self.top.join("objects"),
        };
        run(Command::new("mkcomposefs")
            .arg(format!("--digest-store={}", image.objects.display()))
            .args([tree, &image.path]))?;
        enable_verity(&image.path)?;
        Ok(image)
    }

    /// The counters of its disk.
    pub fn disk(&self) -> Result<Disk> {
        Disk::device(&self.device)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.top, UnmountFlags::empty()) {
            eprintln!("cannot unmount {}: {error}", self.top.display());
        }
    }
}
