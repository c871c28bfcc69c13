// SPDX-License-Identifier: GPL-2.0

//! A kernel to build: which of them, and for which machine.

use anyhow::Result;
use anyhow::bail;

use super::flavor::Flavor;
use crate::machine::Machine;
use crate::machine::MachineArgs;

/// One of the guest's kernels, for a machine. A flavor alone is one for x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which kernel.
    pub flavor: Flavor,
    /// For which machine.
    pub machine: Machine,
}

impl From<Flavor> for Target {
    fn from(flavor: Flavor) -> Self {
        Self {
            flavor,
            machine: Machine::default(),
        }
    }
}

impl Target {
    /// The kernel of a flavor for a machine.
    ///
    /// # Errors
    ///
    /// When there is no such kernel.
    pub fn new(flavor: Flavor, machine: Machine) -> Result<Self> {
        if machine != Machine::X86_64 && flavor != Flavor::Plain {
            bail!(
                "there is no {} kernel for {}: only --flavor plain is built for it",
                flavor.name(),
                machine.arch().name()
            );
        }
        Ok(Self { flavor, machine })
    }

    /// A name for logs and progress.
    pub fn name(self) -> String {
        format!("{}{}", self.flavor.name(), self.machine.suffix())
    }

    /// The kernel that makes disks for this one.
    pub fn for_disks(self) -> Self {
        Self {
            flavor: self.flavor.for_disks(),
            ..self
        }
    }
}

/// The options that name a kernel.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct TargetArgs {
    /// Which kernel
    #[arg(long, value_enum, default_value_t)]
    pub flavor: Flavor,

    #[command(flatten)]
    pub machine: MachineArgs,
}

impl TargetArgs {
    /// The kernel.
    ///
    /// # Errors
    ///
    /// When xtask builds no kernel of this flavor for the machine.
    pub fn target(self) -> Result<Target> {
        Target::new(self.flavor, self.machine.machine()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::PageSize;

    #[test]
    fn only_the_plain_kernel_is_built_for_other_machines() -> Result<()> {
        let arm64 = Machine::Arm64(PageSize::K64);
        assert_eq!(Target::new(Flavor::Plain, arm64)?.name(), "plain-arm64-64k");
        for flavor in [
            Flavor::Debug,
            Flavor::Patched,
            Flavor::PatchedDebug,
            Flavor::Debian,
        ] {
            let refused = Target::new(flavor, arm64).map_err(|error| error.to_string());
            assert!(refused.is_err_and(|text| text.contains("--flavor plain")));
            assert_eq!(Target::new(flavor, Machine::X86_64)?, Target::from(flavor));
        }
        Ok(())
    }
}
