// SPDX-License-Identifier: GPL-2.0

//! Which code QEMU has translated because it was about to run.
//!
//! QEMU translates up to the next call or jump. A basic block begins with a call of
//! `__sanitizer_cov_trace_pc()`, so a place is where QEMU begins to translate when that returns.

use std::fs::File;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

use super::places::Places;

/// Where a kernel without CONFIG_RANDOMIZE_BASE loads its first module, which begins with its
/// section .text, and the end of the addresses of modules.
const MODULES: (u64, u64) = (0xffff_ffff_a000_0000, 0xffff_ffff_ff00_0000);

/// QEMU's log of a guest's run.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// A log in this file.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The words of QEMU's command line.
    pub fn qemu(&self) -> [String; 6] {
        let (first, last) = MODULES;
        [
            "-d".to_owned(),
            "in_asm".to_owned(),
            "-D".to_owned(),
            self.path.display().to_string(),
            "-dfilter".to_owned(),
            format!("{first:#x}..{last:#x}"),
        ]
    }

    /// Where translations began, if composefs is the first module of the guest.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn places(&self) -> Result<Places> {
        read(&self.path).with_context(|| format!("cannot read {}", self.path.display()))
    }
}

fn read(path: &Path) -> Result<Places> {
    let mut places = Places::new();
    let mut begins = false;
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        if begins {
            places.extend(place(&line));
        }
        begins = line.starts_with("IN:");
    }
    Ok(places)
}

/// The place in a line of assembler.
fn place(line: &str) -> Option<u32> {
    let (address, _) = line.strip_prefix("0x")?.split_once(':')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    u32::try_from(address.checked_sub(MODULES.0)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_each_block_is_a_place() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("log");
        std::fs::write(
            &path,
            "----------------\n\
             IN: \n\
             0xffffffffa001c000:  41 56                    pushq    %r14\n\
             0xffffffffa001c002:  53                       pushq    %rbx\n\
             \n\
             ----------------\n\
             IN: composefs_init\n\
             0xffffffffa0000018:  89 c1                    movl     %eax, %ecx\n",
        )?;
        assert_eq!(Log::new(path).places()?, Places::from([0x18, 0x1c000]));
        Ok(())
    }
}
