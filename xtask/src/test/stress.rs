// SPDX-License-Identifier: GPL-2.0

//! tests/stress in the guest: many threads use mounts while objects, caches, mounts and
//! the module come and go.

use std::time::Duration;

use anyhow::Result;

use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::fixtures;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::named;
use crate::vm;
use crate::vm::Job;
use crate::vm::VmConfig;

/// How long each boot goes on, in seconds.
pub const SECONDS: &str = "COMPOSEFS_STRESS_SECONDS";

/// The seed of all random choices. The same seed gives a similar run, not the same one:
/// threads are scheduled differently.
pub const SEED: &str = "COMPOSEFS_STRESS_SEED";

/// The package and its program.
const PROGRAM: &str = "composefs-stress";

/// What differs between the kernels.
struct Limits {
    /// How long the threads run, unless [`SECONDS`] says otherwise.
    seconds: u64,
    /// How much the first pass reads, how much memory is left, in MiB, and how long a
    /// thread may make no progress, in seconds. The debug kernel needs more memory and
    /// reads less in the same time.
    arguments: &'static str,
    /// Time for the first pass and the end.
    margin: Duration,
}

const USUAL: Limits = Limits {
    seconds: 30,
    arguments: "--memory 48 --timeout 120",
    margin: Duration::from_secs(600),
};

const DEBUG: Limits = Limits {
    seconds: 60,
    arguments: "--inodes 2500 --content 8 --memory 64 --timeout 900",
    margin: Duration::from_secs(1800),
};

/// How long the threads of the long suite run, in seconds.
const LONG: u64 = 900;

/// Runs the suite on one of the kernels.
///
/// # Errors
///
/// When the program cannot be built, or the guest cannot be made or fails.
pub fn run(context: &Context, report: &mut Report, flavor: Flavor) -> Result<()> {
    let limits = if flavor.is_debug() { DEBUG } else { USUAL };
    stress(context, report, flavor, &limits, limits.seconds)
}

/// The same for [`LONG`].
///
/// # Errors
///
/// As for [`run`].
pub fn run_long(context: &Context, report: &mut Report, flavor: Flavor) -> Result<()> {
    let limits = if flavor.is_debug() { DEBUG } else { USUAL };
    stress(context, report, flavor, &limits, LONG)
}

fn stress(
    context: &Context,
    report: &mut Report,
    flavor: Flavor,
    limits: &Limits,
    usual: u64,
) -> Result<()> {
    let seconds = named::number(SECONDS)?.unwrap_or(usual);
    let seed = named::number(SEED)?.unwrap_or(1);
    let programs = guest_program::build(context, PROGRAM)?;
    let disk = fixtures::make(context, flavor)?;
    let mut config = VmConfig::prepare(context, flavor, true, Job::Shell(None))?;
    config.job = Job::Command(vec![format!(
        "set -e\n\
         cp /mnt/programs/{PROGRAM} /run/{PROGRAM}\n\
         cp -r /mnt/selftests /run/selftests\n\
         exec /run/{PROGRAM} --fixtures {} --device /dev/vdc \
         --module /run/xtask/composefs.ko --selftests /run/selftests \
         --seconds {seconds} --seed {seed} {}\n",
        vm::FIXTURES,
        limits.arguments,
    )]);
    config.mounts = vec![
        ("programs".to_owned(), programs),
        ("selftests".to_owned(), context.repo.join("tests/selftests")),
    ];
    config.fixtures = Some(disk);
    config.smp = 4;
    config.timeout = Some(Duration::from_secs(seconds) + limits.margin);
    config.log_name = format!("stress-{}-console", flavor.name());
    let program = Program::on(flavor, "stress", "running the stress test");
    watch(context, &config, report, &program)
}
