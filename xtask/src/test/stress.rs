// SPDX-License-Identifier: GPL-2.0

//! tests/stress in the guest: many threads on mounts, objects, caches and a
//! module that come and go. First on the plain kernel, which gets more done,
//! then on the debug kernel, which sees more.

use std::slice;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::fixtures;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::named;
use crate::vm::Job;
use crate::vm::VmConfig;

/// How long each boot goes on, in seconds.
const SECONDS: &str = "COMPOSEFS_STRESS_SECONDS";

/// Where chance starts from. The same seed is not the same run, as threads are
/// not scheduled twice the same way, but near to it.
const SEED: &str = "COMPOSEFS_STRESS_SEED";

/// One boot.
struct Boot {
    flavor: Flavor,
    about: &'static str,
    suffix: &'static str,
    seconds: u64,
    /// What the first pass may look at, and how much memory there is: tests of
    /// the debug kernel need more of the latter, and get along with less of the
    /// former.
    limits: &'static str,
    /// For the first pass and the end.
    margin: Duration,
}

const BOOTS: [Boot; 2] = [
    Boot {
        flavor: Flavor::Plain,
        about: "stressing the plain kernel",
        suffix: " (plain kernel)",
        seconds: 60,
        limits: "--memory 48 --patience 120",
        margin: Duration::from_secs(600),
    },
    Boot {
        flavor: Flavor::Debug,
        about: "stressing the debug kernel",
        suffix: " (debug kernel)",
        seconds: 120,
        limits: "--inodes 2500 --content 8 --memory 64 --patience 900",
        margin: Duration::from_secs(1800),
    },
];

/// Runs the suite.
///
/// # Errors
///
/// When the program cannot be built or a guest not be made, or did not end
/// well.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    boots(context, report, &BOOTS)
}

/// Runs it on one of the kernels.
///
/// # Errors
///
/// As [`run`], and when there is no such kernel.
pub fn part(context: &Context, report: &mut Report, flavor: &str) -> Result<()> {
    let boot = BOOTS.iter().find(|boot| boot.flavor.name() == flavor);
    let boot = boot.with_context(|| format!("there is no kernel \"{flavor}\""))?;
    boots(context, report, slice::from_ref(boot))
}

fn boots(context: &Context, report: &mut Report, boots: &[Boot]) -> Result<()> {
    let seconds = named::number(SECONDS)?;
    let seed = named::number(SEED)?.unwrap_or(1);
    let programs = guest_program::build(context, "composefs-stress")?;
    let disk = fixtures::make(context)?;
    for boot in boots {
        let seconds = seconds.unwrap_or(boot.seconds);
        let mut config = VmConfig::prepare(context, boot.flavor, true, Job::Shell(None))?;
        config.job = Job::Command(vec![format!(
            "set -e\n{}\n\
             cp /mnt/programs/composefs-stress /run/composefs-stress\n\
             cp -r /mnt/selftests /run/selftests\n\
             exec /run/composefs-stress --fixtures {} --device /dev/vdc \
             --module /run/xtask/composefs.ko --selftests /run/selftests \
             --seconds {seconds} --seed {seed} {}\n",
            fixtures::mount_command(),
            fixtures::MOUNT_POINT,
            boot.limits,
        )]);
        config.mounts = vec![
            ("programs".to_owned(), programs.clone()),
            ("selftests".to_owned(), context.repo.join("tests/selftests")),
        ];
        config.disks = vec![disk.clone()];
        config.smp = 4;
        config.timeout = Some(Duration::from_secs(seconds) + boot.margin);
        config.log_name = "stress-console".to_owned();
        let program = Program {
            name: "stress",
            about: boot.about,
            prefix: "",
            suffix: boot.suffix,
        };
        watch(context, &config, report, program)?;
    }
    Ok(())
}
