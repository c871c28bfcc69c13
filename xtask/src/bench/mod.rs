// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench`: what composefs costs, beside erofs and overlayfs.
//!
//! One boot of one guest measures everything, with its instructions counted
//! instead of timed. What is measured, and how, is in tests/bench.

mod baseline;
mod disks;
mod profile;
mod results;
mod table;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Image;
use composefs_bench::Line;
use composefs_bench::Plan;
use composefs_bench::ROWS;
use composefs_bench::Row;
use composefs_bench::Stack;

use crate::context::Context;
use crate::fixtures;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::progress::Step;
use crate::vm;
use crate::vm::Job;
use crate::vm::Stream;
use crate::vm::VmConfig;
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

    /// Measures once, and only the most important rows
    #[arg(long)]
    quick: bool,

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

    /// Makes these figures the ones that later ones are compared with
    #[arg(long)]
    save_baseline: bool,
}

/// The program in the guest.
const PROGRAM: &str = "composefs-bench";

/// The image to walk, if COMPOSEFS_IMAGES has it.
const PREFERRED_TREE: &str = "cs9-minimal";

/// Else the guest's own tree, from the fixtures.
const USUAL_TREE: &str = "debian-v0";

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
    if args.save_baseline {
        baseline::save(context, stored, &results)?;
    }
    println!("\nresults: {}", directory.join("results.json").display());
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
    let wanted = ROWS.iter().filter(|row| row.quick || !args.quick);
    Ok(wanted.map(|row| row.name.to_owned()).collect())
}

fn measure(context: &Context, args: &BenchArgs, rows: Vec<String>) -> Result<Results> {
    let blobs = disks::blobs(context)?;
    let program = guest_program::build(context, PROGRAM)?;
    let mut config = VmConfig::prepare(context, Flavor::Plain, true, Job::Shell(None))?;
    config.mounts = vec![("bench".to_owned(), program)];
    config.disks = vec![blobs];
    config.icount = true;
    config.timeout = Some(Duration::from_secs(3600));
    config.log_name = "bench-console".to_owned();

    let (tree, unpack) = match env::var_os("COMPOSEFS_IMAGES").map(PathBuf::from) {
        Some(images) if images.join(format!("{PREFERRED_TREE}.cfs.gz")).exists() => {
            let images = images.canonicalize()?;
            config.mounts.push(("images".to_owned(), images));
            let from = format!("gzip -dc /mnt/images/{PREFERRED_TREE}.cfs.gz");
            (PREFERRED_TREE, from)
        }
        _ => {
            config.disks.push(fixtures::make(context)?);
            let from = format!(
                "mkdir /run/fixtures\nmount -o ro /dev/vdd /run/fixtures\n\
                 cat /run/fixtures/images/{USUAL_TREE}.cfs"
            );
            (USUAL_TREE, from)
        }
    };
    let image = |path: &str, objects: &str| Image {
        path: path.into(),
        objects: objects.into(),
    };
    let plan = Plan {
        rows,
        repeat: match args {
            // The first one takes no samples.
            BenchArgs { profile: true, .. } => args.repeat + 1,
            BenchArgs { quick: true, .. } => 1,
            _ => args.repeat.max(1),
        },
        tree: image("/run/bench/tree.cfs", "/run/bench/none"),
        stored_tree: image("/scratch/tree.cfs", "/run/bench/none"),
        blobs: image("/run/bench/blobs.cfs", "/run/blobs/objects"),
        profile: args.profile.then_some(args.of),
    };
    // erofs takes images on ramfs, not on tmpfs.
    config.job = Job::Command(vec![format!(
        "set -e\n\
         mkdir /run/blobs /run/bench\n\
         mount -o ro /dev/vdc /run/blobs\n\
         mount -t ramfs bench /run/bench\n\
         mkdir /run/bench/none\n\
         {unpack} >/run/bench/tree.cfs\n\
         cp /run/bench/tree.cfs /scratch\n\
         cp /run/blobs/blobs.cfs /mnt/bench/{PROGRAM} /run/bench\n\
         exec /run/bench/{PROGRAM} run {}\n",
        shell_words::quote(&serde_json::to_string(&plan)?),
    )]);
    let mut results = Results::of(tree);
    watch(context, &config, &mut results)?;
    Ok(results)
}

/// Runs the guest and collects what it says.
fn watch(context: &Context, config: &VmConfig, results: &mut Results) -> Result<()> {
    let log = context.cache.numbered_log("bench")?;
    let step = Step::begin("measuring in the guest", &log)?;
    let mut output = Vec::new();
    let outcome = vm::run(context, config, &mut |stream, bytes| {
        step.note(bytes);
        if stream == Stream::Stdout {
            output.extend_from_slice(bytes);
        }
    })?;
    drop(step);
    match &outcome.result {
        Ok(0) => {}
        Ok(status) => bail!(
            "{PROGRAM} ended with status {status}:\n{}\nIts output: {}",
            crate::progress::tail(&log, 10),
            log.display()
        ),
        Err(failure) => bail!("{}", outcome.explain(failure)),
    }
    for line in String::from_utf8(output)?.lines() {
        match serde_json::from_str(line).with_context(|| format!("not understood: {line}"))? {
            Line::Figure(figure) => results.figures.push(figure),
            Line::Profile(profile) => results.profiles.push(profile),
        }
    }
    Ok(())
}
