// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench boot`: what it costs a whole system that its root is an image.
//!
//! The system of `cargo xtask boot` boots by composefs, by erofs and overlayfs, and from ext4.

mod ahead;
mod boots;
mod figures;
mod machine;
mod page;
mod table;

use std::fs;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::args::BenchArgs;
use crate::context::Context;
use boots::Boots;
use figures::Results;
use figures::Way;

/// The word that stands for this among the names of rows.
pub const NAME: &str = "boot";

/// Measures, and shows and keeps the results. `ways` are the names of those that are measured;
/// without any, all are.
///
/// # Errors
///
/// When a name is wrong, a part cannot be made, or a system does not boot.
pub fn run(context: &Context, args: &BenchArgs, ways: &[String]) -> Result<ExitCode> {
    args.only("`bench boot`", &["--quick", "--output", "--save-baseline"])?;
    let ways = chosen(ways)?;
    let directory = args
        .output
        .clone()
        .unwrap_or_else(|| context.repo.join("target/bench"));
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let boots = Boots::prepare(context, &ways)?;
    let mut results = Results::default();
    for number in 1..=args.repeat {
        for &way in &ways {
            let measured = boots.measure(context, way, number, args.quick)?;
            results.add(way, measured);
            // Also after a part: this takes long.
            results.save(&directory.join("boot.json"))?;
        }
    }
    print!("{}", table::text(&results));
    println!("\nboot.json is in {}", directory.display());
    if args.save_baseline && ways == Way::ALL && !args.quick {
        page::update(context, &results)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The ways with these names, or all.
fn chosen(names: &[String]) -> Result<Vec<Way>> {
    for name in names {
        if Way::ALL.iter().all(|way| way.to_string() != *name) {
            let known = Way::ALL.map(|way| way.to_string());
            bail!("no system boots by \"{name}\", but by {}", known.join(", "));
        }
    }
    let wanted = |way: &Way| names.is_empty() || names.contains(&way.to_string());
    Ok(Way::ALL.into_iter().filter(wanted).collect())
}
