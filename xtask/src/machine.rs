// SPDX-License-Identifier: GPL-2.0

//! The machines that a guest can be: which processor, and how large its pages are.

use std::env;

use anyhow::Result;
use anyhow::bail;

/// A kind of processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// What most computers have
    #[default]
    #[value(name = "x86-64")]
    X86_64,
    /// 64-bit ARM, emulated
    #[value(name = "arm64")]
    Arm64,
}

impl Arch {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64",
            Self::Arm64 => "arm64",
        }
    }

    /// What Debian calls it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// What Rust and QEMU call it.
    pub fn rust(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// The target of Rust programs for it.
    pub fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The program that emulates it.
    pub fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Arm64 => "qemu-system-aarch64",
        }
    }

    /// Whether xtask runs on such a processor.
    pub fn is_host(self) -> bool {
        self.rust() == env::consts::ARCH
    }
}

/// How large the pages of memory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PageSize {
    /// 4 KiB
    #[value(name = "4k")]
    K4,
    /// 16 KiB
    #[value(name = "16k")]
    K16,
    /// 64 KiB
    #[value(name = "64k")]
    K64,
}

impl PageSize {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::K4, Self::K16, Self::K64];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::K4 => "4k",
            Self::K16 => "16k",
            Self::K64 => "64k",
        }
    }
}

/// A machine: what a kernel is compiled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// Its pages have 4 KiB.
    #[default]
    X86_64,
    /// Its pages have the size that the kernel is compiled for.
    Arm64(PageSize),
}

impl Machine {
    /// Its processor.
    pub fn arch(self) -> Arch {
        match self {
            Self::X86_64 => Arch::X86_64,
            Self::Arm64(_) => Arch::Arm64,
        }
    }

    /// A name for logs, cache entries and users.
    pub fn name(self) -> String {
        match self {
            Self::X86_64 => self.arch().name().to_owned(),
            Self::Arm64(size) => format!("{}-{}", self.arch().name(), size.name()),
        }
    }

    /// `-NAME`, or nothing for the usual machine.
    pub fn suffix(self) -> String {
        match self {
            Self::X86_64 => String::new(),
            other => format!("-{}", other.name()),
        }
    }

    /// The variables of the kernel's make. x86-64 is what it builds for without.
    pub fn make_variables(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &[],
            Self::Arm64(_) => &["ARCH=arm64"],
        }
    }

    /// The kernel that a boot loader takes: make's name for it, and where it is in the build
    /// directory.
    pub fn image(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("bzImage", "arch/x86/boot/bzImage"),
            Self::Arm64(_) => ("Image", "arch/arm64/boot/Image"),
        }
    }

    /// Its file in scripts/config, if it has one, and the lines of the kernel's configuration
    /// behind that.
    pub fn config(self) -> (Option<&'static str>, &'static str) {
        match self {
            Self::X86_64 => (None, ""),
            Self::Arm64(size) => (
                Some("arm64.config"),
                match size {
                    PageSize::K4 => "CONFIG_ARM64_4K_PAGES=y\n",
                    PageSize::K16 => "CONFIG_ARM64_16K_PAGES=y\n",
                    PageSize::K64 => "CONFIG_ARM64_64K_PAGES=y\n",
                },
            ),
        }
    }
}

/// The options that name a machine.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct MachineArgs {
    /// The processor of the guest
    #[arg(long, value_enum, default_value_t)]
    pub arch: Arch,

    /// The size of the guest's pages, with --arch arm64 [default: 4k]
    #[arg(long, value_enum, value_name = "SIZE")]
    pub page_size: Option<PageSize>,
}

impl MachineArgs {
    /// The machine.
    ///
    /// # Errors
    ///
    /// When there is no choice of a page size.
    pub fn machine(self) -> Result<Machine> {
        match (self.arch, self.page_size) {
            (Arch::X86_64, None) => Ok(Machine::X86_64),
            (Arch::X86_64, Some(size)) => bail!(
                "--page-size {}: pages of x86-64 always have 4 KiB; --arch arm64 has the choice",
                size.name()
            ),
            (Arch::Arm64, size) => Ok(Machine::Arm64(size.unwrap_or(PageSize::K4))),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        machine: MachineArgs,
    }

    fn parse(words: &[&str]) -> Result<Machine> {
        let words = ["kernel"].iter().chain(words);
        Whole::try_parse_from(words)?.machine.machine()
    }

    #[test]
    fn a_machine_is_an_architecture_and_its_pages() -> Result<()> {
        assert_eq!(parse(&[])?, Machine::X86_64);
        assert_eq!(parse(&["--arch", "x86-64"])?, Machine::X86_64);
        assert_eq!(parse(&["--arch", "arm64"])?, Machine::Arm64(PageSize::K4));
        for size in PageSize::ALL {
            let machine = parse(&["--arch=arm64", "--page-size", size.name()])?;
            assert_eq!(machine, Machine::Arm64(size));
            assert_eq!(machine.suffix(), format!("-arm64-{}", size.name()));
        }
        assert_eq!(Machine::X86_64.suffix(), "");
        Ok(())
    }

    #[test]
    fn pages_without_a_choice_are_refused() {
        let refused = parse(&["--page-size", "64k"]);
        assert!(refused.is_err_and(|error| error.to_string().contains("--arch arm64")));
        assert!(parse(&["--arch", "arm64", "--page-size", "8k"]).is_err());
    }
}
