// SPDX-License-Identifier: GPL-2.0

//! The boots of the guest in which tests/selftests run: which kernel, how it
//! is started, which programs.

use std::time::Duration;

use anyhow::Result;
use anyhow::bail;

use super::report::Report;
use super::selftests;
use crate::context::Context;
use crate::kernel::Flavor;

/// A choice among the programs of tests/selftests, named without their `.py`.
#[derive(Clone, Copy, Debug)]
pub enum Programs<'a> {
    /// All that are not named.
    AllBut(&'a [&'a str]),
    /// Those that are named.
    Only(&'a [&'a str]),
}

/// One boot of the guest.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// What its logs are called after.
    pub name: &'static str,
    /// Which kernel.
    pub flavor: Flavor,
    /// More for the kernel's command line.
    pub append: &'static [&'static str],
    /// What runs.
    pub programs: Programs<'a>,
    /// All the time that the boot may take, under emulation.
    pub timeout: Duration,
    /// The time that one program may take, if not that of `settings`.
    pub program_timeout: Option<Duration>,
}

/// Programs that need a boot of their own, or the debug kernel.
const SPECIAL: [&str; 5] = [
    "selinux",
    "disks_random",
    "fail_nth",
    "fail_nth_mount",
    "kmemleak",
];

const PLAIN: Boot<'_> = Boot {
    name: "selftests",
    flavor: Flavor::Plain,
    append: &[],
    programs: Programs::AllBut(&SPECIAL),
    timeout: Duration::from_secs(45 * 60),
    program_timeout: None,
};

const SELINUX: Boot<'_> = Boot {
    name: "selinux",
    flavor: Flavor::Plain,
    append: &["lsm=selinux"],
    programs: Programs::Only(&["selinux"]),
    timeout: Duration::from_secs(10 * 60),
    program_timeout: None,
};

/// What a file system that is no module may differ in: none of it counts on one.
const PATCHED: Boot<'_> = Boot {
    name: "patched",
    flavor: Flavor::Patched,
    append: &[],
    programs: Programs::Only(&[
        "basedir",
        "differential",
        "readdir",
        "attributes",
        "data_read",
        "data_map",
        "sharing",
    ]),
    timeout: Duration::from_secs(15 * 60),
    program_timeout: None,
};

/// What looks at memory, locks and lifetimes. Comparisons of whole trees would
/// take too long: the debug kernel makes system calls thirty times slower.
const DEBUG: Boot<'_> = Boot {
    name: "debug",
    flavor: Flavor::Debug,
    append: &[],
    programs: Programs::Only(&[
        "options",
        "source",
        "basedir",
        "userns",
        "attributes",
        "changing",
        "verity_repair",
        "verity_log",
        "verity_event",
        "events",
        "dm_verity",
        "damage",
        "idmap",
        "through",
        "differences",
        "remount",
        "readonly",
        "locks",
        "lifecycle",
        "faults",
        "sharing",
        "data_read",
        "data_map",
        "data_shared",
        "data_store",
        "uprobes",
        "readdir",
        "handles",
        "lock_order",
        "waiting",
        "stalled",
        "cold",
        "disks",
        "disks_random",
        "fail_nth_mount",
        "fail_nth",
    ]),
    timeout: Duration::from_secs(50 * 60),
    program_timeout: Some(Duration::from_secs(15 * 60)),
};

/// Looking for leaks makes every allocation dearer, so only this boot does.
const KMEMLEAK: Boot<'_> = Boot {
    name: "kmemleak",
    flavor: Flavor::Debug,
    append: &["kmemleak=on"],
    programs: Programs::Only(&["kmemleak"]),
    timeout: Duration::from_secs(25 * 60),
    program_timeout: Some(Duration::from_secs(20 * 60)),
};

/// The plain kernel.
pub fn plain(context: &Context, report: &mut Report) -> Result<()> {
    selftests::run(context, report, &PLAIN)
}

/// The plain kernel with SELinux.
pub fn selinux(context: &Context, report: &mut Report) -> Result<()> {
    selftests::run(context, report, &SELINUX)
}

/// The kernel with composefs built in.
pub fn patched(context: &Context, report: &mut Report) -> Result<()> {
    selftests::run(context, report, &PATCHED)
}

/// The debug kernel.
pub fn debug(context: &Context, report: &mut Report) -> Result<()> {
    selftests::run(context, report, &DEBUG)
}

/// The debug kernel, looking for leaks.
pub fn kmemleak(context: &Context, report: &mut Report) -> Result<()> {
    selftests::run(context, report, &KMEMLEAK)
}

/// Some programs, with commas between their names, on the plain kernel.
pub fn plain_part(context: &Context, report: &mut Report, names: &str) -> Result<()> {
    part(context, report, &PLAIN, names)
}

/// The same on the debug kernel.
pub fn debug_part(context: &Context, report: &mut Report, names: &str) -> Result<()> {
    part(context, report, &DEBUG, names)
}

fn part(context: &Context, report: &mut Report, boot: &Boot<'_>, names: &str) -> Result<()> {
    let names: Vec<&str> = names.split(',').collect();
    for name in &names {
        let program = context.repo.join(format!("tests/selftests/{name}.py"));
        if !program.exists() {
            bail!("there is no program {}", program.display());
        }
    }
    let boot = Boot {
        programs: Programs::Only(&names),
        ..*boot
    };
    selftests::run(context, report, &boot)
}
