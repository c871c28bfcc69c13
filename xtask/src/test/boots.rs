// SPDX-License-Identifier: GPL-2.0

//! The boots of the guest in which tests/selftests run: which kernel, how it
//! is started, which programs.

use std::time::Duration;

use anyhow::Result;

use super::report::Report;
use super::selftests;
use crate::context::Context;
use crate::kernel::Flavor;

/// A choice among the programs of tests/selftests, named without their `.py`.
#[derive(Clone, Copy, Debug)]
pub enum Programs {
    /// All that are not named.
    AllBut(&'static [&'static str]),
    /// Those that are named.
    Only(&'static [&'static str]),
}

/// One boot of the guest.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// What its logs are called after.
    pub name: &'static str,
    /// Which kernel.
    pub flavor: Flavor,
    /// More for the kernel's command line.
    pub append: &'static [&'static str],
    /// What runs.
    pub programs: Programs,
    /// All the time that the boot may take, under emulation.
    pub timeout: Duration,
    /// The time that one program may take, if not that of `settings`.
    pub program_timeout: Option<Duration>,
}

const PLAIN: Boot = Boot {
    name: "selftests",
    flavor: Flavor::Plain,
    append: &[],
    programs: Programs::AllBut(&[]),
    timeout: Duration::from_secs(45 * 60),
    program_timeout: None,
};

/// What looks at memory, locks and lifetimes. Comparisons of whole trees would
/// take too long: the debug kernel makes system calls thirty times slower.
const DEBUG: Boot = Boot {
    name: "debug",
    flavor: Flavor::Debug,
    append: &[],
    programs: Programs::Only(&[
        "lifecycle",
        "faults",
        "options",
        "remount",
        "sharing",
        "data_read",
        "data_map",
        "readdir",
        "handles",
        "events",
        "verity_repair",
    ]),
    timeout: Duration::from_secs(30 * 60),
    program_timeout: Some(Duration::from_secs(15 * 60)),
};

/// The plain kernel.
pub fn plain(context: &Context, report: &mut Report) -> Result<()> {
    selftests::run(context, report, &PLAIN)
}

/// The debug kernel.
pub fn debug(context: &Context, report: &mut Report) -> Result<()> {
    selftests::run(context, report, &DEBUG)
}
