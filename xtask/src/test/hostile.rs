// SPDX-License-Identifier: GPL-2.0

//! Images that are made to do harm, by tests/image/hostile in the guest. First
//! on the plain kernel, which gets through more of them, then on the debug
//! kernel, which sees more of what they do.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::slice;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;

use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::fixtures;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::named;
use crate::progress::Step;
use crate::progress::output;
use crate::vm::Disk;
use crate::vm::Job;
use crate::vm::VmConfig;

/// What decides how images are changed: the same seed makes the same images.
const SEED: &str = "COMPOSEFS_HOSTILE_SEED";

/// The seed of half of the images, unless a person names one.
const FIXED: u64 = 1;

/// Seconds in a day.
const DAY: u64 = 24 * 60 * 60;

/// The package and its program.
const PROGRAM: &str = "composefs-hostile";

/// One boot.
struct Boot {
    flavor: Flavor,
    about: &'static str,
    suffix: &'static str,
    /// No more images than these, of all seeds, and no longer than this.
    count: u32,
    seconds: u32,
    /// Not fewer images than these, or the machine is too slow for it.
    least: u32,
    /// How many seconds one system call may take.
    patience: u32,
}

const BOOTS: [Boot; 2] = [
    Boot {
        flavor: Flavor::Plain,
        about: "mounting hostile images on the plain kernel",
        suffix: " (plain kernel)",
        count: 20_000,
        least: 10_000,
        seconds: 900,
        patience: 60,
    },
    Boot {
        flavor: Flavor::Debug,
        about: "mounting hostile images on the debug kernel",
        suffix: " (debug kernel)",
        count: 5_000,
        least: 2_000,
        seconds: 900,
        patience: 600,
    },
];

/// Runs the suite.
///
/// # Errors
///
/// When the program or its images cannot be made or a guest did not end well.
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
    let programs = guest_program::build(context, PROGRAM)?;
    let disk = fixtures::make(context)?;
    for boot in boots {
        one(context, report, boot, &programs, &disk)?;
    }
    Ok(())
}

fn one(
    context: &Context,
    report: &mut Report,
    boot: &Boot,
    programs: &Path,
    disk: &Disk,
) -> Result<()> {
    let run = context.cache.run_dir()?;
    let share = run.path().join("share");
    let images = share.join("images");
    corpus(context, &images)?;
    let seeds = seeds()?;
    let mut config = VmConfig::prepare(context, boot.flavor, true, Job::Shell(None))?;
    // Unmounting waits for RCU, and under emulation that is most of the time:
    // some threads wait while one works.
    // Of the fixtures, the small images: most of a large one is not looked at.
    config.job = Job::Command(vec![format!(
        "set -e\n{}\n\
         echo 1 >/sys/kernel/rcu_expedited\n\
         find {fixtures}/images -name '*.cfs' -size -64k -exec cp {{}} images/ ';'\n\
         cp /mnt/programs/{PROGRAM} /run/\n\
         exec /run/{PROGRAM} --keep . --basedir {fixtures}/objects {} \
         --threads 4 --count {} --least {} --seconds {} --patience {} images/*.cfs\n",
        fixtures::mount_command(),
        seeds
            .iter()
            .map(|seed| format!("--seed {seed}"))
            .collect::<Vec<_>>()
            .join(" "),
        boot.count,
        boot.least,
        boot.seconds,
        boot.patience,
        fixtures = fixtures::MOUNT_POINT,
    )]);
    config.share = Some(share.clone());
    config.mounts = vec![("programs".to_owned(), programs.to_path_buf())];
    config.disks = vec![disk.clone()];
    config.timeout = Some(Duration::from_secs(
        (boot.seconds + 2 * boot.patience).into(),
    ));
    config.log_name = "hostile-console".to_owned();
    let program = Program {
        name: "hostile",
        about: boot.about,
        prefix: "",
        suffix: boot.suffix,
    };
    let result = watch(context, &config, report, program);
    let kept = context.cache.root().join("hostile");
    if let Err(error) = result {
        // The guest could not keep it any more.
        let how = again(&programs.join(PROGRAM), &share, &kept)
            .unwrap_or_else(|error| format!("they are not known: {error:#}"));
        return Err(anyhow!("{error:#}\nThe images in use:\n{how}"));
    }
    keep(&share, &kept)
}

/// Whose images are made: those of the seed that a person names. Else those that
/// have always been made, and those of the day, which nobody has seen before.
fn seeds() -> Result<Vec<u64>> {
    if let Some(seed) = named::number(SEED)? {
        return Ok(vec![seed]);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let today = now.as_secs() / DAY;
    eprintln!("xtask: hostile images of the seeds {FIXED} and {today}; {SEED}={today} makes more");
    Ok(vec![FIXED, today])
}

/// Makes the images to start from.
fn corpus(context: &Context, dir: &Path) -> Result<()> {
    let log = context.cache.log("hostile-corpus");
    let step = Step::begin("making images to be damaged", &log)?;
    step.run(
        Command::new("cargo")
            .current_dir(&context.repo)
            .args(["run", "--package", "composefs-image-writers"])
            .args(["--example", "corpus", "--"])
            .arg(dir),
    )
}

/// Makes the images that were in use when the guest ended, one a thread, from
/// what the guest has noted. Says which they are.
fn again(program: &Path, share: &Path, kept: &Path) -> Result<String> {
    let notes = fs::read_to_string(share.join("current")).context("the guest has noted none")?;
    fs::create_dir_all(kept)?;
    let images = images(share)?;
    let mut said = String::new();
    for note in notes.lines() {
        // A thread that had not begun has left zeros.
        let mut words = note.trim_start_matches('\0').split_whitespace();
        let (Some(seed), Some(index)) = (words.next(), words.next()) else {
            bail!("the guest's note says nothing: {note:?}");
        };
        let path = kept.join(format!("seed-{seed}-index-{index}.cfs"));
        let mut program = Command::new(program);
        program.args(["--seed", seed, "--index", index, "--write"]);
        said.push_str(&output(program.arg(path).args(&images))?);
    }
    Ok(said)
}

/// The images of a share in the order in which the guest's shell names them.
fn images(share: &Path) -> Result<Vec<PathBuf>> {
    let mut images = files(&share.join("images"))?;
    images.sort();
    Ok(images)
}

/// Keeps the images with which something was wrong.
fn keep(share: &Path, kept: &Path) -> Result<()> {
    for file in files(share)? {
        if let Some(name) = file.file_name() {
            fs::create_dir_all(kept)?;
            let copy = kept.join(name);
            fs::copy(&file, &copy)?;
            eprintln!("The image is kept as {}", copy.display());
        }
    }
    Ok(())
}

/// The images in a directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cfs"))
        .collect())
}
