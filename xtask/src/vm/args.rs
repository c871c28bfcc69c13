// SPDX-License-Identifier: GPL-2.0

//! The options of `cargo xtask vm`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use anyhow::bail;

use super::config::Accel;
use super::config::Disk;
use super::config::Job;
use super::config::VmConfig;
use crate::guest::System;
use crate::kernel::TargetArgs;
use crate::named;

/// The least memory with which the guest boots, in MiB.
const LEAST_MEMORY: u32 = 128;

/// Options of `cargo xtask vm`.
#[derive(clap::Args, Debug)]
pub struct VmArgs {
    #[command(flatten)]
    pub target: TargetArgs,

    /// The system on the guest's root disk
    #[arg(long, value_enum, default_value_t)]
    pub system: System,

    /// Shares a directory with the guest, read-write, at /mnt/share
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,

    /// Gives the guest a file as a disk, /dev/vdc and on; may be repeated
    #[arg(long = "disk", value_name = "FILE")]
    pub disks: Vec<PathBuf>,

    /// Mounts images to try out, and their objects, at /run/fixtures; the tests
    /// use them, too
    #[arg(long)]
    pub fixtures: bool,

    /// Memory of the guest, 128M or more
    #[arg(long = "mem", value_name = "SIZE", default_value = "2G", value_parser = memory)]
    pub memory: String,

    /// Processors of the guest
    #[arg(long, value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=255))]
    pub smp: u32,

    /// Makes the guest's clock count instructions, on one emulated processor:
    /// measurements then repeat exactly
    #[arg(long)]
    pub icount: bool,

    /// How the guest's instructions are executed
    #[arg(long, value_enum, default_value = "auto", env = "COMPOSEFS_ACCEL")]
    pub accel: Accel,

    /// Stops the guest when the command takes longer; 0 is no limit. A shell
    /// has none
    #[arg(long, value_name = "SECONDS", default_value_t = 1200)]
    pub timeout: u64,

    /// Adds words to the kernel's command line; may be repeated
    #[arg(long, value_name = "KERNEL_ARGS", allow_hyphen_values = true)]
    pub append: Vec<String>,

    /// Adds a word to QEMU's command line; may be repeated
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub qemu: Vec<String>,

    /// Does not load the module
    #[arg(long)]
    pub no_module: bool,

    /// The command to run, as root. Several words are a program and its
    /// arguments, a single word is a line for the shell. Without a command, an
    /// interactive shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl VmArgs {
    /// The job: the command, or a shell.
    pub fn job(&self) -> Job {
        if self.command.is_empty() {
            Job::Shell(None)
        } else {
            Job::Command(self.command.clone())
        }
    }

    /// The options with absolute paths. Called before anything is built.
    ///
    /// # Errors
    ///
    /// When the guest cannot have what a path names.
    pub fn checked(mut self) -> Result<Self> {
        if let Some(share) = &mut self.share {
            *share = named::directory("--share", share)?;
        }
        for number in 0..self.disks.len() {
            let (before, rest) = self.disks.split_at_mut(number);
            if let Some(disk) = rest.first_mut() {
                let named = disk.display().to_string();
                *disk = named::disk("--disk", disk)?;
                if before.contains(disk) {
                    bail!("--disk: {named} is named twice, but a disk has one writer");
                }
            }
        }
        Ok(self)
    }

    /// Puts the options into a configuration. --fixtures is left to the caller.
    pub fn apply(self, config: &mut VmConfig) {
        config.timeout = match config.job {
            Job::Shell(_) => None,
            Job::Command(_) => (self.timeout > 0).then(|| Duration::from_secs(self.timeout)),
        };
        config.share = self.share;
        config.disks = self
            .disks
            .into_iter()
            .map(|file| Disk { file, keep: true })
            .collect();
        config.memory = self.memory;
        config.smp = if self.icount { 1 } else { self.smp };
        config.icount = self.icount;
        config.accel = self.accel;
        config.append = self.append;
        config.qemu = self.qemu;
    }
}

/// Checks an amount of memory, and returns it as QEMU reads it.
fn memory(text: &str) -> Result<String, String> {
    let mebibytes = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let factor = match unit {
            "M" => 1,
            "G" => 1024,
            _ => return None,
        };
        number.parse::<u32>().ok()?.checked_mul(factor)
    };
    match mebibytes() {
        Some(LEAST_MEMORY..) => Ok(text.to_owned()),
        Some(_) => Err(format!(
            "the guest does not boot with less than {LEAST_MEMORY}M"
        )),
        None => Err("not a number and M or G, as in 512M or 2G".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        vm: VmArgs,
    }

    fn parse(words: &[&str]) -> Result<VmArgs> {
        let words = ["vm"].iter().chain(words);
        Whole::try_parse_from(words)?.vm.checked()
    }

    #[test]
    fn what_qemu_would_refuse_is_refused_by_its_name() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let disk = dir.path().join("disk");
        File::create(&disk)?;
        let disk = disk.to_string_lossy();
        assert!(parse(&["--mem", "512M", "--smp", "4", "--disk", &disk]).is_ok());
        for (words, said) in [
            (&["--mem", "2X"][..], "--mem"),
            (&["--mem", "0G"], "--mem"),
            (&["--mem", "10M"], "less than 128M"),
            (&["--mem", ""], "--mem"),
            (&["--mem", "2GG"], "--mem"),
            (&["--smp", "0"], "--smp"),
            (&["--disk", "/nowhere/disk"], "--disk"),
            (&["--disk", &disk, "--disk", &disk], "twice"),
            (&["--share", "/nowhere"], "--share"),
            (&["--share", &disk], "not a directory"),
        ] {
            let error = parse(words).err().map(|error| format!("{error:#}"));
            assert!(
                error.as_ref().is_some_and(|text| text.contains(said)),
                "{words:?}: {error:?}"
            );
        }
        Ok(())
    }
}
