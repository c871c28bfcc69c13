// SPDX-License-Identifier: GPL-2.0

//! The options of `cargo xtask boot`.

use std::path;
use std::path::PathBuf;

use anyhow::Result;
use anyhow::bail;

use crate::kernel::Flavor;
use crate::named;
use crate::vm::Job;

/// An image in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Image {
    /// The system as it was installed
    #[default]
    #[value(name = "A")]
    A,
    /// The same after an update
    #[value(name = "B")]
    B,
    /// A with small files in the image itself
    #[value(name = "inline")]
    Inline,
}

impl Image {
    /// Its name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::Inline => "inline",
        }
    }
}

/// What mounts the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Stack {
    /// This file system
    #[default]
    Composefs,
    /// Two file systems of the kernel, on the same image and objects
    #[value(name = "erofs+overlayfs")]
    Overlayfs,
    /// The same system unpacked on a disk of the same size, without an image
    Ext4,
}

/// How the initramfs mounts the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// By systemd and the kernel's command line, without a program of this project
    #[default]
    Kernel,
    /// By the script of packaging/initramfs for initramfs-tools
    InitramfsTools,
    /// By the module of packaging/initramfs for dracut
    Dracut,
    /// By composefs-setup-root of crates.io, once the image is mounted
    SetupRoot,
}

/// The file system of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreType {
    /// Made with the feature verity
    #[default]
    Ext4,
    /// Which has fs-verity without being asked
    Btrfs,
}

impl StoreType {
    /// Its name for mount(8).
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
        }
    }
}

/// Options of `cargo xtask boot`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct BootArgs {
    /// The kernel to boot
    #[arg(long, value_enum, default_value_t)]
    pub flavor: Flavor,

    /// How the initramfs mounts the root
    #[arg(long, value_enum, default_value_t)]
    pub way: Way,

    /// Which image is the root
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    pub image: Image,

    /// The digest on the kernel's command line, instead of the image's own
    #[arg(long, value_name = "HEX")]
    pub digest: Option<String>,

    /// Replaces the object of this file by one that differs in a byte and has no
    /// fs-verity, or the image itself if this is the word "image"
    #[arg(long, value_name = "PATH")]
    pub tamper: Option<String>,

    /// What mounts the root
    #[arg(long, value_enum, default_value_t)]
    pub stack: Stack,

    /// The file system of the store
    #[arg(long, value_enum, default_value_t)]
    pub store: StoreType,

    /// Writes to /etc and /var on a tmpfs, so that they are gone after the boot
    #[arg(long)]
    pub transient: bool,

    /// Keeps the disk with all that is written in this file, for the next boot;
    /// it is made if it does not exist
    #[arg(long, value_name = "FILE")]
    pub disk: Option<PathBuf>,

    /// Adds words to the kernel's command line; may be repeated
    #[arg(long, value_name = "KERNEL_ARGS", allow_hyphen_values = true)]
    pub append: Vec<String>,

    /// Stops the guest when the command takes longer; 0 is no limit. A shell
    /// has none
    #[arg(long, value_name = "SECONDS", default_value_t = 1200)]
    pub timeout: u64,

    /// The command to run in the booted system, as root. Several words are a
    /// program and its arguments, a single word is a line for the shell.
    /// Without a command, an interactive shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl BootArgs {
    /// The options with an absolute path of the disk. Called before anything is built.
    ///
    /// # Errors
    ///
    /// When they do not fit together, or the disk cannot be used.
    pub fn checked(mut self) -> Result<Self> {
        let ext4 = self.stack == Stack::Ext4;
        if ext4 && (self.tamper.is_some() || self.transient || self.image != Image::A) {
            bail!("--stack ext4 has no image: --image, --tamper and --transient do not go with it");
        }
        if self.way != Way::Kernel && self.stack != Stack::Composefs {
            bail!("--way: only --stack composefs has several");
        }
        if self.way == Way::SetupRoot && self.transient {
            bail!("--transient: composefs-setup-root has it in a file, not on the command line");
        }
        if self.way != Way::Kernel && self.digest.is_some() && self.store != StoreType::Ext4 {
            bail!("--digest changes a disk with ext4 only, with --way: leave out --store");
        }
        if self.digest.is_some() && self.stack != Stack::Composefs {
            bail!("--digest: only --stack composefs has a digest on the kernel's command line");
        }
        if self.tamper.is_some() && self.store != StoreType::Ext4 {
            bail!("--tamper changes a disk with ext4 only: leave out --store");
        }
        if let Some(disk) = &mut self.disk {
            *disk = if disk.exists() {
                named::disk("--disk", disk)?
            } else {
                path::absolute(&*disk)?
            };
        }
        Ok(self)
    }

    /// The job: the command, or a shell.
    pub fn job(&self) -> Job {
        if self.command.is_empty() {
            Job::Shell(None)
        } else {
            Job::Command(self.command.clone())
        }
    }
}
