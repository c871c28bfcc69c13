// SPDX-License-Identifier: GPL-2.0

//! Images that were changed to do harm, which tests/image/hostile makes and mounts in
//! the guest.

mod keep;

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Result;
use anyhow::anyhow;

use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::fixtures;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::named;
use crate::progress::Step;
use crate::progress::say;
use crate::vm;
use crate::vm::Job;
use crate::vm::VmConfig;

/// How images are changed: the same seed makes the same images.
pub const SEED: &str = "COMPOSEFS_HOSTILE_SEED";

/// The seed of half of the images, unless [`SEED`] is set.
const FIXED: u64 = 1;

/// Seconds in a day.
const DAY: u64 = 24 * 60 * 60;

/// The package and its program.
const PROGRAM: &str = "composefs-hostile";

/// What differs between the kernels.
struct Limits {
    /// The largest number of images, of all seeds.
    count: u32,
    /// The smallest number. A machine that makes fewer in time is too slow for the test.
    least: u32,
    /// How long images are made and mounted.
    seconds: u32,
    /// How many seconds one system call may take.
    timeout: u32,
}

const USUAL: Limits = Limits {
    count: 5_000,
    least: 2_500,
    seconds: 300,
    timeout: 60,
};

const DEBUG: Limits = Limits {
    count: 1_000,
    least: 400,
    seconds: 300,
    timeout: 600,
};

/// How many times as many images the long suite has.
const LONG: u32 = 34;

/// Runs the suite on one of the kernels.
///
/// # Errors
///
/// When the program or its images cannot be made, or the guest cannot be made or fails.
pub fn run(context: &Context, report: &mut Report, flavor: Flavor) -> Result<()> {
    let limits = if flavor.is_debug() { DEBUG } else { USUAL };
    hostile(context, report, flavor, &limits)
}

/// The same with [`LONG`] times as many images.
///
/// # Errors
///
/// As for [`run`].
pub fn run_long(context: &Context, report: &mut Report, flavor: Flavor) -> Result<()> {
    let limits = if flavor.is_debug() { DEBUG } else { USUAL };
    let limits = Limits {
        count: LONG * limits.count,
        least: LONG * limits.least,
        seconds: LONG * limits.seconds,
        ..limits
    };
    hostile(context, report, flavor, &limits)
}

fn hostile(context: &Context, report: &mut Report, flavor: Flavor, limits: &Limits) -> Result<()> {
    let programs = guest_program::build(context, PROGRAM)?;
    let disk = fixtures::make(context, flavor)?;
    let run = context.cache.run_dir()?;
    let share = run.path().join("share");
    corpus(context, &share.join("images"))?;
    let mut config = VmConfig::prepare(context, flavor, true, Job::Shell(None))?;
    config.job = Job::Command(vec![script(limits, &seeds()?)]);
    config.share = Some(share.clone());
    config.mounts = vec![("programs".to_owned(), programs.clone())];
    config.fixtures = Some(disk);
    config.timeout = Some(Duration::from_secs(
        (limits.seconds + 2 * limits.timeout).into(),
    ));
    config.log_name = format!("hostile-{}-console", flavor.name());
    let program = Program::on(flavor, "hostile", "mounting hostile images");
    let result = watch(context, &config, report, &program);
    let kept = context.cache.root().join("hostile");
    if let Err(error) = result {
        // A guest that has died could not keep them.
        let how = keep::again(&programs.join(PROGRAM), &share, &kept)
            .unwrap_or_else(|error| format!("they are not known: {error:#}"));
        return Err(anyhow!("{error:#}\nThe images in use:\n{how}"));
    }
    keep::keep(&share, &kept)
}

/// What the guest runs.
fn script(limits: &Limits, seeds: &[u64]) -> String {
    let seeds: String = seeds.iter().map(|seed| format!("--seed {seed} ")).collect();
    // Unmounting waits for RCU, which is most of the time under emulation: with four
    // threads, some wait while one works. Of the fixtures, the small images are enough:
    // most of a large one is never read.
    format!(
        "set -e\n\
         echo 1 >/sys/kernel/rcu_expedited\n\
         find {fixtures}/images -name '*.cfs' -size -64k -exec cp {{}} images/ ';'\n\
         cp /mnt/programs/{PROGRAM} /run/\n\
         exec /run/{PROGRAM} --keep . --basedir {fixtures}/objects {seeds} \
         --threads 4 --count {} --least {} --seconds {} --timeout {} images/*.cfs\n",
        limits.count,
        limits.least,
        limits.seconds,
        limits.timeout,
        fixtures = vm::FIXTURES,
    )
}

/// The seeds: the one of [`SEED`], else a fixed one and one that changes every day.
fn seeds() -> Result<Vec<u64>> {
    if let Some(seed) = named::number(SEED)? {
        return Ok(vec![seed]);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let today = now.as_secs() / DAY;
    say(&format!(
        "xtask: hostile images of the seeds {FIXED} and {today}; {SEED}={today} repeats the latter"
    ));
    Ok(vec![FIXED, today])
}

/// Makes good images, which are changed then.
fn corpus(context: &Context, dir: &Path) -> Result<()> {
    let log = context.cache.log("hostile-corpus");
    let step = Step::begin("making images to change", &log)?;
    step.run(
        Command::new("cargo")
            .current_dir(&context.repo)
            .args(["run", "--package", "composefs-image-writers"])
            .args(["--example", "corpus", "--"])
            .arg(dir),
    )
}
