// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench`: what composefs costs, beside erofs and overlayfs.
//!
//! One boot of one guest measures everything, with its instructions counted
//! instead of timed; a second one measures time, if asked. What is measured, and
//! how, is in tests/bench.

mod baseline;
mod boot;
mod disks;
mod document;
mod images;
mod plot;
mod profile;
mod results;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::ROWS;
use composefs_bench::Row;
use composefs_bench::Set;
use composefs_bench::Stack;

use crate::context::Context;
use boot::Boot;
use results::Results;

/// Options of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// Only the rows of these names
    #[arg(value_name = "ROW")]
    rows: Vec<String>,

    /// Names the rows
    #[arg(long)]
    list: bool,

    /// Measures twice, and only the most important rows
    #[arg(long)]
    quick: bool,

    /// Measures trees of a million entries, too, which takes some minutes more
    #[arg(long)]
    large: bool,

    /// Measures time, too, in a guest with several processors
    #[arg(long)]
    wall: bool,

    /// How often each row is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: u32,

    /// Says in which functions the kernel was during the rows that are named
    #[arg(long, requires = "rows")]
    profile: bool,

    /// On what, with --profile
    #[arg(long, value_name = "STACK", default_value = "composefs", value_parser = stack)]
    of: Stack,

    /// A directory for the results
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Makes these figures the ones that later ones are compared with; if all
    /// rows were measured, their table and plot become those of the documentation
    #[arg(long)]
    save_baseline: bool,
}

/// The plot in the documentation.
const PLOT: &str = "Documentation/filesystems/composefs-performance.svg";

/// The program in the guest.
const PROGRAM: &str = "composefs-bench";

fn stack(name: &str) -> Result<Stack, String> {
    let names = || Stack::ALL.map(|stack| stack.to_string());
    Stack::ALL
        .into_iter()
        .find(|stack| stack.to_string() == name)
        .ok_or_else(|| format!("one of {}", names().join(", ")))
}

/// Measures, and shows and keeps the results.
///
/// # Errors
///
/// When a part cannot be made, or the guest fails.
pub fn run(context: &Context, args: &BenchArgs) -> Result<ExitCode> {
    if args.list {
        for row in ROWS {
            println!("{:<14} {} ({})", row.name, row.title, row.unit);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = chosen(args)?;
    let directory = args
        .output
        .clone()
        .unwrap_or_else(|| context.repo.join("target/bench"));
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;

    let results = measure(context, args, rows)?;
    if args.profile {
        profile::print(&results.profiles);
        return Ok(ExitCode::SUCCESS);
    }
    let stored = baseline::load(context)?;
    table::print(&results, &stored);
    results.save(&directory.join("results.json"))?;
    plot::draw(&results, &directory.join("bench.svg"))?;
    if args.save_baseline {
        baseline::save(context, stored, &results)?;
        if args.rows.is_empty() && !args.quick {
            plot::draw(&results, &context.repo.join(PLOT))?;
            document::update(context, &results)?;
        }
    }
    println!(
        "\nresults.json and bench.svg are in {}",
        directory.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// The rows that the command line asks for.
fn chosen(args: &BenchArgs) -> Result<Vec<String>> {
    if let Some(unknown) = args.rows.iter().find(|name| Row::named(name).is_none()) {
        bail!("no row \"{unknown}\"; cargo xtask bench --list names them");
    }
    if !args.rows.is_empty() {
        return Ok(args.rows.clone());
    }
    let wanted = ROWS.iter().filter(|row| match row.set {
        Set::Quick => true,
        Set::Usual => !args.quick,
        Set::Large => args.large,
        Set::Wall => args.wall,
    });
    Ok(wanted.map(|row| row.name.to_owned()).collect())
}

fn measure(context: &Context, args: &BenchArgs, rows: Vec<String>) -> Result<Results> {
    let (timed, counted): (Vec<String>, Vec<String>) = rows
        .into_iter()
        .partition(|name| Row::named(name).is_some_and(|row| row.set == Set::Wall));
    let mut results = Results::default();
    for (rows, clock) in [(counted, Clock::Instructions), (timed, Clock::Time)] {
        if !rows.is_empty() {
            let mut boot = Boot::new(context, args, rows)?;
            boot.config.icount = clock == Clock::Instructions;
            // As many as threads that walk at once.
            boot.config.smp = 4;
            boot.run(context, &mut results)?;
        }
    }
    Ok(results)
}

/// What the guest's clock counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    Instructions,
    Time,
}
