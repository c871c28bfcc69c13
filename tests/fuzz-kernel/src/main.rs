// SPDX-License-Identifier: GPL-2.0

//! Fuzzes the module in the guest: mounts images, good ones and damaged ones, and uses the mounts
//! by random programs of operations. A case that runs new code of the module is kept, and others
//! are made of it.

mod draw;
mod fuzz;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use clap::Parser as _;
use composefs_fuzz_cases::case::Case;
use composefs_fuzz_cases::corpus;
use composefs_fuzz_cases::log;
use composefs_fuzz_cases::log::Log;
use composefs_fuzz_cases::minimise;
use composefs_fuzz_cases::run;
use composefs_fuzz_cases::world::World;

use fuzz::Plan;

/// How long a case that fails is made smaller.
const MINIMISE: Duration = Duration::from_secs(120);

/// Fuzzes composefs. Runs in a guest, as root
#[derive(clap::Parser, Debug)]
struct Args {
    /// Directory for images and objects, on a file system with fs-verity; it is removed first
    #[arg(long, value_name = "DIR", default_value = "/scratch/fuzz-kernel")]
    dir: PathBuf,

    /// Seconds after which an operation counts as hanging, which ends the program
    #[arg(long, default_value_t = 120)]
    timeout: u64,

    /// Directory for the case that runs, what was covered, and cases that fail
    #[arg(long, value_name = "DIR")]
    share: PathBuf,

    /// Directory of cases to begin with, where new ones are kept
    #[arg(long, value_name = "DIR")]
    corpus: PathBuf,

    /// How long
    #[arg(long, default_value_t = 600)]
    seconds: u64,

    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let world = World::make(&args.dir)?;
    run::watch(Duration::from_secs(args.timeout));
    println!("KTAP version 1");
    let plan = Plan {
        share: &args.share,
        corpus: &args.corpus,
        length: Duration::from_secs(args.seconds),
        seed: args.seed,
    };
    fuzz(&world, &plan)
}

fn fuzz(world: &World, plan: &Plan<'_>) -> Result<ExitCode> {
    println!("1..1");
    let found = fuzz::fuzz(world, plan)?;
    println!("# figure: cases = {}", found.cases);
    println!("# figure: cases in the corpus = {}", found.corpus);
    println!(
        "# figure: places of the module that were run = {}",
        found.places
    );
    let Some((case, wrong)) = found.failure else {
        println!("ok 1 no case fails");
        return Ok(ExitCode::SUCCESS);
    };
    println!("# a case fails: {wrong}");
    let dir = plan.share.join("found");
    // If it does not fail again, this is all there is.
    let path = corpus::write(&dir, &case, &wrong)?;
    let short = shorten(world, &case, &wrong)?;
    if short != case {
        std::fs::remove_file(path)?;
        corpus::write(&dir, &short, &wrong)?;
    }
    for line in short.to_string().lines() {
        println!("#     {line}");
    }
    println!("not ok 1 no case fails");
    Ok(ExitCode::FAILURE)
}

/// Makes a case smaller that fails, if it fails each time.
fn shorten(world: &World, case: &Case, wrong: &str) -> Result<Case> {
    let mut log = Log::open()?;
    let wanted = log::essence(wrong);
    let end = Instant::now() + MINIMISE;
    let mut fails = |case: &Case| {
        if Instant::now() > end {
            return Ok(false);
        }
        let wrong = run::run(world, &mut log, case, || {})?;
        Ok(wrong.is_some_and(|wrong| log::essence(&wrong) == wanted))
    };
    if !fails(case)? {
        println!("# it does not fail again");
        return Ok(case.clone());
    }
    minimise::minimise(case, fails)
}
