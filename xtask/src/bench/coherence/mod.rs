// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench coherence`: how often processors wait for each other's caches.
//!
//! A plugin of QEMU, tests/bench/coherence, has a model of private caches. The program of
//! tests/bench does operations on several processors in turns, and the plugin counts which
//! accesses of the kernel miss because of another processor.

mod boot;
mod check;
mod counts;
mod measured;
mod report;
mod symbols;
mod table;

use std::fs;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::coherence::ROWS;
use composefs_bench::coherence::Row;

use super::args::BenchArgs;
use crate::context::Context;
use crate::machine::Machine;
use boot::Boot;
use counts::Counted;

/// The word that stands for this among the names of rows.
pub const NAME: &str = "coherence";

/// Numbers of processors, unless others are asked for.
const PROCESSORS: [u32; 4] = [2, 4, 8, 16];

/// Measures, and shows and keeps the results. `names` are the rows; without any, all are.
///
/// # Errors
///
/// When a name is wrong, a part cannot be made, or the plugin counts wrong.
pub fn run(context: &Context, args: &BenchArgs, names: &[String]) -> Result<ExitCode> {
    args.only("`bench coherence`", &["--processors", "--output"])?;
    if args.machine.machine()? != Machine::X86_64 {
        bail!("coherence is measured on x86-64 only");
    }
    if let Some(unknown) = names.iter().find(|name| Row::named(name).is_none()) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!(
            "there is no row \"{unknown}\" of coherence, but {}",
            known.join(", ")
        );
    }
    let rows = ROWS.iter().map(|row| row.name.to_owned()).filter(|name| {
        names.is_empty() || names.contains(name) || check::ALWAYS.contains(&name.as_str())
    });
    let rows: Vec<String> = rows.collect();
    let directory = args
        .output
        .clone()
        .unwrap_or_else(|| context.repo.join("target/bench/coherence"));
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let mut all = Vec::new();
    for &processors in args.processors.as_deref().unwrap_or(&PROCESSORS) {
        let boot = Boot::new(context, processors, &rows)?;
        let (measured, symbols) = boot.run(context)?;
        check::check(&measured)?;
        for measured in measured {
            let counted = Counted::new(measured, &symbols);
            report::save(&counted, &symbols, &directory)?;
            all.push(counted);
        }
    }
    print!("{}", table::text(&all));
    println!(
        "\nFor each row, functions and lines are in {}",
        directory.display()
    );
    Ok(ExitCode::SUCCESS)
}
