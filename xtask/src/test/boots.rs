// SPDX-License-Identifier: GPL-2.0

//! The boots of the guest in which tests/selftests run: which kernel, how it is
//! started, which programs.

use std::time::Duration;

use anyhow::Result;
use anyhow::bail;

use super::selftests;
use super::selftests::Boot;
use super::selftests::Origin;
use super::selftests::Programs;
use crate::guest::System;
use crate::kernel::Flavor;

/// Programs that need a boot of their own.
const OWN_BOOT: [&str; 3] = ["selinux", "ipe", "kmemleak"];

/// Programs that need the debug kernel.
const ONLY_ON_DEBUG: [&str; 6] = [
    "disks_random",
    "lock_order",
    "lock_order_disks",
    "fail_nth",
    "fail_nth_mount",
    "fail_nth_signature",
];

/// Programs that need the test key in the kernel.
const NEED_KEY: [&str; 1] = ["signature_kernel"];

/// Programs about images of another machine.
const ONLY_ELSEWHERE: [&str; 1] = ["other_machine"];

/// Programs that take long: the comparison of large images, and those about programs for users,
/// which change seldom.
const LONG: [&str; 8] = [
    "differential_large",
    "helper_table",
    "helper_limits",
    "helper_remount",
    "adversaries_store",
    "composefs_readahead",
    "composefs_store",
    "container",
];

/// All programs but those of these lists, on the plain kernel.
pub const PLAIN: Boot<'_> = Boot {
    name: "selftests-plain",
    flavor: Flavor::Plain,
    system: System::Usual,
    append: &[],
    lanes: 2,
    origin: Origin::Clone,
    programs: Programs::AllBut(&[&OWN_BOOT, &ONLY_ON_DEBUG, &ONLY_ELSEWHERE, &LONG]),
    timeout: Duration::from_secs(75 * 60),
    program_timeout: None,
    coverage: false,
    few_rounds: false,
};

/// The plain kernel of another machine.
pub const ARM64: Boot<'_> = Boot {
    name: "selftests",
    programs: Programs::AllBut(&[&OWN_BOOT, &ONLY_ON_DEBUG]),
    timeout: Duration::from_secs(90 * 60),
    ..PLAIN
};

/// The same on Debian's own kernel, as a user has it. It has no test key.
pub const DEBIAN: Boot<'_> = Boot {
    name: "selftests",
    flavor: Flavor::Debian,
    programs: Programs::AllBut(&[&OWN_BOOT, &ONLY_ON_DEBUG, &NEED_KEY, &ONLY_ELSEWHERE, &LONG]),
    ..PLAIN
};

/// Those that take long.
pub const DEBIAN_LONG: Boot<'_> = Boot {
    name: "selftests-long",
    programs: Programs::Only(&LONG),
    ..DEBIAN
};

/// Programs of others that use mounts, on a system that has them.
pub const CLIENTS: Boot<'_> = Boot {
    name: "clients",
    flavor: Flavor::Plain,
    system: System::Clients,
    append: &[],
    lanes: 1,
    origin: Origin::Clone,
    programs: Programs::Clients,
    timeout: Duration::from_secs(20 * 60),
    program_timeout: None,
    coverage: false,
    few_rounds: false,
};

/// Tests of others, on a system that has them.
pub const OTHERS: Boot<'_> = Boot {
    name: "others",
    flavor: Flavor::Plain,
    system: System::Others,
    // The clock that the kernel prefers runs too fast where the machine has other things to do
    // while it boots, and then programs of others take too long.
    append: &["clocksource=acpi_pm"],
    lanes: 1,
    origin: Origin::Clone,
    programs: Programs::Others,
    timeout: Duration::from_secs(2 * 60 * 60),
    program_timeout: Some(Duration::from_secs(60 * 60)),
    coverage: false,
    few_rounds: false,
};

/// Debian's kernel with SELinux.
pub const SELINUX: Boot<'_> = Boot {
    name: "selinux",
    flavor: Flavor::Debian,
    system: System::Usual,
    append: &["lsm=selinux"],
    lanes: 1,
    origin: Origin::Clone,
    programs: Programs::Only(&["selinux"]),
    timeout: Duration::from_secs(10 * 60),
    program_timeout: None,
    coverage: false,
    few_rounds: false,
};

/// The plain kernel with IPE, which would not let the guest boot if it enforced its policy from the
/// start: the programs of the guest's disk have no signatures.
pub const IPE: Boot<'_> = Boot {
    name: "ipe",
    flavor: Flavor::Plain,
    system: System::Usual,
    append: &["lsm=ipe", "ipe.enforce=0"],
    lanes: 1,
    origin: Origin::Clone,
    programs: Programs::Only(&["ipe"]),
    timeout: Duration::from_secs(10 * 60),
    program_timeout: None,
    coverage: false,
    few_rounds: false,
};

/// What may differ when composefs is no module. These programs do not need it to be one.
pub const PATCHED: Boot<'_> = Boot {
    name: "patched",
    flavor: Flavor::Patched,
    system: System::Usual,
    append: &[],
    lanes: 1,
    origin: Origin::Clone,
    programs: Programs::Only(&[
        "basedir",
        "differential",
        "readdir",
        "attributes",
        "statx",
        "data_read",
        "data_direct",
        "data_map",
        "sharing",
    ]),
    timeout: Duration::from_secs(15 * 60),
    program_timeout: None,
    coverage: false,
    few_rounds: false,
};

/// What a file system has to do. These programs need no images of others.
const CORE: Programs<'_> = Programs::Only(&[
    "core_mount",
    "core_lookup",
    "core_readdir",
    "core_read",
    "core_verity",
]);

/// A kernel tree with the patches, as its developers have it.
pub const TREE: Boot<'_> = Boot {
    name: "tree",
    flavor: Flavor::PatchedDebug,
    system: System::Usual,
    append: &[],
    lanes: 1,
    origin: Origin::Patches,
    programs: CORE,
    timeout: Duration::from_secs(10 * 60),
    program_timeout: None,
    coverage: false,
    few_rounds: false,
};

/// Programs about memory, locks and lifetimes that take some minutes at most, and do not need the
/// modules xfs and btrfs.
const ON_DEBUG: [&str; 22] = [
    "options",
    "basedir",
    "userns",
    "verity_repair",
    "verity_log",
    "events",
    "through",
    "remount",
    "locks",
    "lifecycle",
    "faults",
    "sharing",
    "data_read",
    "data_direct",
    "data_map",
    "readdir",
    "handles",
    "lock_order",
    "waiting",
    "stalled",
    "signature_kernel",
    "fail_nth",
];

/// These programs on the debug kernel. Comparisons of whole trees would take
/// too long: system calls are thirty times slower on the debug kernel.
pub const DEBUG: Boot<'_> = Boot {
    name: "debug",
    flavor: Flavor::Debug,
    system: System::Usual,
    append: &[],
    lanes: 2,
    origin: Origin::Clone,
    programs: Programs::Only(&ON_DEBUG),
    timeout: Duration::from_secs(75 * 60),
    program_timeout: Some(Duration::from_secs(15 * 60)),
    coverage: false,
    few_rounds: true,
};

/// All programs on the debug kernel. Some compare whole trees. The report says which lines of the
/// module they ran.
pub const DEBUG_ALL: Boot<'_> = Boot {
    name: "debug-all",
    lanes: 1,
    programs: Programs::AllBut(&[&OWN_BOOT, &ONLY_ELSEWHERE]),
    timeout: Duration::from_secs(5 * 60 * 60),
    program_timeout: Some(Duration::from_secs(2 * 60 * 60)),
    coverage: true,
    few_rounds: false,
    ..DEBUG
};

/// Checks that programs, with commas between their names, can run in a suite.
///
/// # Errors
///
/// A program that needs the kernel or the system of another suite, and which one that is.
pub fn check_suite(suite: &str, names: &str) -> Result<()> {
    for name in names.split(',') {
        let prefixed = [selftests::CLIENTS, selftests::OTHERS]
            .into_iter()
            .find_map(|prefix| {
                name.starts_with(prefix)
                    .then(|| prefix.trim_end_matches('_'))
            });
        let own = OWN_BOOT.into_iter().find(|own| *own == name).or(prefixed);
        if let Some(own) = own.filter(|own| *own != suite) {
            bail!("\"{name}\" needs a boot of its own: cargo xtask test {own}:{name}");
        }
    }
    Ok(())
}

/// The search for leaks. It slows each allocation, so it has a boot of its own.
pub const KMEMLEAK: Boot<'_> = Boot {
    name: "kmemleak",
    flavor: Flavor::Debug,
    system: System::Usual,
    append: &["kmemleak=on"],
    lanes: 1,
    origin: Origin::Clone,
    programs: Programs::Only(&["kmemleak"]),
    timeout: Duration::from_secs(25 * 60),
    program_timeout: Some(Duration::from_secs(20 * 60)),
    coverage: false,
    few_rounds: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_boot_of_its_own_runs_nowhere_else() -> Result<()> {
        check_suite("selftests", "readdir,rights")?;
        check_suite("ipe", "ipe")?;
        check_suite("clients", "clients_podman")?;
        for (suite, names) in [("selftests", "readdir,ipe"), ("debug", "clients_podman")] {
            let refused = check_suite(suite, names).map_err(|error| error.to_string());
            assert!(
                refused.is_err_and(|text| text.contains("cargo xtask test")),
                "{names}"
            );
        }
        Ok(())
    }
}
