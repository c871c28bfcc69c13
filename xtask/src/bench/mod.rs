// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench`: what composefs costs, beside erofs and overlayfs.
//!
//! One boot of the guest measures everything by the instructions that it takes; with
//! --wall, a second boot measures time. What is measured, and how, is in tests/bench.
//! `cargo xtask bench boot` measures whole systems, `cargo xtask bench coherence` what happens
//! between processors, and `cargo xtask bench disks`, `containers` and `files` have a table each.

mod args;
mod baseline;
mod boot;
mod coherence;
mod disk;
mod document;
mod guest;
mod images;
mod plot;
mod profile;
mod results;
mod system;
mod table;
mod topics;

use std::fs;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::ROWS;
use composefs_bench::Row;
use composefs_bench::Set;
use composefs_bench::Stack;
use composefs_bench::Unit;
use composefs_bench::topics::Topic;

use crate::context::Context;
use crate::machine::Machine;
pub use args::BenchArgs;
use baseline::Baseline;
use boot::Boot;
use results::Results;

/// Rows whose instructions are not counted between two calls, so that nothing can be sampled.
const UNPROFILED: [&str; 3] = ["io-uring", "per-file-10k", "per-file-1m"];

/// The plot in the documentation.
const PLOT: &str = "Documentation/filesystems/composefs-performance.svg";

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
        println!("{:<14} the rows about booting a whole system", system::NAME);
        for topic in Topic::ALL {
            println!("{:<14} a table: {}", topic.name(), topic.about());
        }
        println!("{:<14} the rows about many processors:", coherence::NAME);
        for row in composefs_bench::coherence::ROWS {
            println!("  {:<14} {}", row.name, row.title);
        }
        return Ok(ExitCode::SUCCESS);
    }
    match args.rows.split_first().map(|(a, b)| (a.as_str(), b)) {
        Some((system::NAME, ways)) => return system::run(context, args, ways),
        Some((coherence::NAME, rows)) => return coherence::run(context, args, rows),
        Some((name, more)) => {
            if let Some(topic) = Topic::named(name) {
                return topics::run(context, args, topic, more);
            }
        }
        None => {}
    }
    let machine = args.machine.machine()?;
    if args.processors.is_some() {
        bail!("--processors is for `bench coherence`");
    }
    let chooses = [
        ("--quick", args.quick),
        ("--large", args.large),
        ("--wall", args.wall),
    ];
    if let (Some((name, _)), false) = (
        chooses.iter().find(|(_, given)| *given),
        args.rows.is_empty(),
    ) {
        bail!("{name} chooses rows: leave it out, or the names of rows");
    }
    if args.profile && args.output.is_some() {
        bail!("--profile prints its lists and writes no file: leave out --output");
    }
    let rows = chosen(args, machine)?;
    let profile = profiled(args, &rows)?;
    let directory = args.output.clone().unwrap_or_else(|| {
        let name = format!("target/bench{}", machine.suffix());
        context.repo.join(name)
    });
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;

    let results = measure(context, args, rows, profile)?;
    if args.profile {
        profile::print(&results.profiles);
        return Ok(ExitCode::SUCCESS);
    }
    // The stored figures are those of the usual machine.
    let stored = match machine {
        Machine::X86_64 => baseline::load(context)?,
        Machine::Arm64(_) => Baseline::default(),
    };
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
fn chosen(args: &BenchArgs, machine: Machine) -> Result<Vec<String>> {
    if machine != Machine::default() {
        return chosen_elsewhere(args, machine);
    }
    if let Some(unknown) = args.rows.iter().find(|name| Row::named(name).is_none()) {
        let name = unknown.as_str();
        if Topic::named(name).is_some() {
            bail!("\"{name}\" is a table of its own: run `cargo xtask bench {name}` alone");
        }
        if [system::NAME, coherence::NAME].contains(&name) {
            bail!("\"{name}\" is no row of the main table: it has to be the first word");
        }
        bail!("there is no row \"{unknown}\"; `cargo xtask bench --list` lists them");
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

/// The rows on another machine than the usual one, whose instructions nobody compares.
fn chosen_elsewhere(args: &BenchArgs, machine: Machine) -> Result<Vec<String>> {
    let (name, rows) = (machine.arch().name(), elsewhere());
    if args.save_baseline || args.profile || args.wall || args.large {
        bail!("with --arch {name}, only memory is measured, and no figures are stored");
    }
    if let Some(other) = args.rows.iter().find(|name| !rows.contains(name)) {
        bail!(
            "the row \"{other}\" is not measured with --arch {name}; these are: {}",
            rows.join(" ")
        );
    }
    match args.rows.as_slice() {
        [] => Ok(rows),
        named => Ok(named.to_vec()),
    }
}

/// The rows about memory.
fn elsewhere() -> Vec<String> {
    let memory = ROWS
        .iter()
        .filter(|row| row.unit == Unit::KiB && matches!(row.set, Set::Quick | Set::Usual));
    memory.map(|row| row.name.to_owned()).collect()
}

/// The stack that is profiled: one on which any of these rows is measured.
fn profiled(args: &BenchArgs, rows: &[String]) -> Result<Option<Stack>> {
    let has = |stack: &Stack| {
        let mut rows = rows.iter().filter_map(|name| Row::named(name));
        rows.any(|row| row.stacks.contains(stack))
    };
    let stacks = || Stack::ALL.into_iter().filter(has);
    let columns: Vec<String> = stacks().map(|stack| stack.to_string()).collect();
    let name = args.profiled(&columns)?;
    let memory = rows.iter().find(|name| {
        let unit = Row::named(name).map(|row| row.unit);
        matches!(unit, Some(Unit::KiB | Unit::Requests))
    });
    if let (Some(row), true) = (memory, args.profile) {
        bail!("\"{row}\" is neither a time nor a number of instructions, and has no profile");
    }
    let without = |name: &&String| {
        let is_timed = Row::named(name).is_some_and(|row| row.set == Set::Wall);
        is_timed || UNPROFILED.contains(&name.as_str())
    };
    if let (Some(row), true) = (rows.iter().find(without), args.profile) {
        bail!("\"{row}\" has no profile: it runs on several threads, or its value is a mean");
    }
    Ok(stacks().find(|stack| Some(stack.to_string()) == name))
}

fn measure(
    context: &Context,
    args: &BenchArgs,
    rows: Vec<String>,
    profile: Option<Stack>,
) -> Result<Results> {
    let (timed, counted): (Vec<String>, Vec<String>) = rows
        .into_iter()
        .partition(|name| Row::named(name).is_some_and(|row| row.set == Set::Wall));
    let mut results = Results::default();
    for (rows, clock) in [(counted, Clock::Instructions), (timed, Clock::Time)] {
        if !rows.is_empty() {
            let mut boot = Boot::new(context, args, rows, profile)?;
            boot.config.icount = clock == Clock::Instructions;
            boot.config.smp = match clock {
                // Several would come to their turns at other instructions in each run.
                Clock::Instructions => 1,
                // One for each thread that walks.
                Clock::Time => 4,
            };
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
