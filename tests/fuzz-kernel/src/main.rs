// SPDX-License-Identifier: GPL-2.0

//! Fuzzes the module in the guest: mounts images, good ones and damaged ones, and uses the mounts
//! by random programs of operations. A case that runs new code of the module is kept, and others
//! are made of it.
//!
//! A case fails if the kernel complains, if an operation hangs, if something stays busy, or if a
//! good image does not show what erofs + overlayfs show of it.

mod args;
mod case;
mod corpus;
mod cover;
mod data;
mod draw;
mod fuzz;
mod grammar;
mod kcov;
mod log;
mod minimise;
mod names;
mod ops;
mod reference;
mod run;
mod scene;
mod seeds;
mod store;
mod sys;
mod trials;
mod world;
mod write;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use clap::Parser as _;

use args::Args;
use args::Task;
use case::Case;
use cover::Cover;
use fuzz::Plan;
use kcov::Kcov;
use log::Log;
use store::Disk;
use trials::Trials;
use world::World;

/// How long a case that fails is made smaller.
const MINIMISE: Duration = Duration::from_secs(120);

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let world = World::make(&args.dir)?;
    run::watch(Duration::from_secs(args.timeout));
    println!("KTAP version 1");
    match args.task {
        Task::Fuzz {
            share,
            corpus,
            seconds,
            seed,
        } => {
            let plan = Plan {
                share: &share,
                corpus: &corpus,
                length: Duration::from_secs(seconds),
                seed,
            };
            fuzz(&world, &plan)
        }
        Task::Minimise { share, case } => minimise(&world, &share, &case),
        Task::Replay {
            places,
            disk,
            cases,
        } => {
            let disk = if disk { Disk::of(&world.dir)? } else { None };
            replay(&world, places.as_deref(), disk.as_ref(), &cases)
        }
    }
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

/// Makes a case smaller, also if the guest dies of it: then the host starts it again.
fn minimise(world: &World, share: &Path, path: &Path) -> Result<ExitCode> {
    let case = corpus::one(path)?;
    let mut log = Log::open()?;
    // How the case itself fails: trials that fail otherwise do not count.
    let essence = share.join("essence");
    let mut wanted = std::fs::read_to_string(&essence).ok();
    let short = Trials::open(&share.join("trials"))?.minimise(&case, |case| {
        let Some(wrong) = run::run(world, &mut log, case, || {})? else {
            return Ok(false);
        };
        let found = log::essence(&wrong);
        if wanted.is_none() {
            println!("# it fails: {wrong}");
            std::fs::write(&essence, &found)?;
        }
        Ok(*wanted.get_or_insert_with(|| found.clone()) == found)
    })?;
    let Some(short) = short else {
        println!("# the case does not fail");
        return Ok(ExitCode::FAILURE);
    };
    std::fs::write(share.join("minimised.case"), short.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn replay(
    world: &World,
    places: Option<&Path>,
    disk: Option<&Disk>,
    cases: &[PathBuf],
) -> Result<ExitCode> {
    println!("1..{}", cases.len());
    let mut log = Log::open()?;
    let kcov = places.map(|_| Kcov::begin()).transpose()?;
    let mut cover = Cover::default();
    let mut code = ExitCode::SUCCESS;
    for (number, path) in cases.iter().enumerate() {
        let case = corpus::one(path)?;
        let wrong = run::run(world, &mut log, &case, || {
            for place in kcov.iter().flat_map(Kcov::take) {
                cover.add(place);
            }
        })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let not = if let Some(wrong) = wrong {
            println!("# {wrong}");
            code = ExitCode::FAILURE;
            "not "
        } else {
            ""
        };
        println!("{not}ok {} {name}", number + 1);
    }
    if let Some(disk) = disk {
        disk.check()?;
    }
    if let Some(path) = places {
        println!("# {} places", cover.count());
        cover.write(path)?;
    }
    Ok(code)
}
