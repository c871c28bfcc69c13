// SPDX-License-Identifier: GPL-2.0

//! Runs cases of the fuzzer again in the guest, or makes one smaller that fails. The kernel needs
//! no KCOV.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser as _;
use composefs_fuzz_cases::corpus;
use composefs_fuzz_cases::cover::Cover;
use composefs_fuzz_cases::kcov::Kcov;
use composefs_fuzz_cases::log;
use composefs_fuzz_cases::log::Log;
use composefs_fuzz_cases::run;
use composefs_fuzz_cases::store::Disk;
use composefs_fuzz_cases::trials::Trials;
use composefs_fuzz_cases::world::World;

/// Runs cases of the fuzzer of composefs. Runs in a guest, as root
#[derive(clap::Parser, Debug)]
struct Args {
    /// Directory for images and objects, on a file system with fs-verity; it is removed first
    #[arg(long, value_name = "DIR", default_value = "/scratch/fuzz-cases")]
    dir: PathBuf,

    /// Seconds after which an operation counts as hanging, which ends the program
    #[arg(long, default_value_t = 120)]
    timeout: u64,

    /// What to do
    #[command(subcommand)]
    task: Task,
}

/// What to do.
#[derive(clap::Subcommand, Debug)]
enum Task {
    /// Makes a case that fails smaller, and writes it to minimised.case
    Minimise {
        /// Directory for what was tried, from which another run goes on, and for the result
        #[arg(long, value_name = "DIR")]
        share: PathBuf,
        /// The case
        case: PathBuf,
    },
    /// Runs cases again
    Replay {
        /// File for the places that were covered, if the kernel notes them
        #[arg(long, value_name = "FILE")]
        places: Option<PathBuf>,
        /// Also unmount the disk with the objects at the end, and see whether it is free
        #[arg(long)]
        disk: bool,
        /// The cases
        #[arg(required = true)]
        cases: Vec<PathBuf>,
    },
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let world = World::make(&args.dir)?;
    run::watch(Duration::from_secs(args.timeout));
    println!("KTAP version 1");
    match args.task {
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
