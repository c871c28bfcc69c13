// SPDX-License-Identifier: GPL-2.0

//! The program that measures in the guest. `cargo xtask bench` starts it with a plan,
//! and it prints a line for each result.

mod caches;
mod clock;
mod coherence;
mod containers;
mod disk;
#[allow(unsafe_code, reason = "rustix has no name_to_handle_at")]
mod handles;
#[allow(
    unsafe_code,
    reason = "memmap2 cannot know that nothing writes to the file"
)]
mod large;
mod many;
mod memory;
mod mounts;
mod objects;
mod prepare;
mod profile;
mod programs;
mod recipe;
mod recorder;
mod small;
mod symbols;
mod timed;
mod topics;
mod tree;
mod walk;
mod wide;
mod xattrs;

use std::env;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Plan;
use composefs_bench::Row;
use composefs_bench::Set;
use composefs_bench::Stack;

use recorder::Recorder;

/// Rows that are measured together.
struct Measurement {
    rows: &'static [&'static str],
    run: fn(&Plan, Stack, &mut Recorder) -> Result<()>,
}

const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        rows: &[
            "cold-walk",
            "warm-walk",
            "readdir",
            "cold-stat",
            "slab",
            "page-cache",
            "free-memory",
        ],
        run: tree::walks,
    },
    Measurement {
        rows: &["open-read", "open"],
        run: small::reads,
    },
    Measurement {
        rows: &["read-memory", "read-slab"],
        run: small::memory,
    },
    Measurement {
        rows: &["requests"],
        run: tree::requests,
    },
    Measurement {
        rows: &["sparse-read", "herd-read"],
        run: tree::sparse,
    },
    Measurement {
        rows: &["ls", "find"],
        run: programs::listings,
    },
    Measurement {
        rows: &["xattrs"],
        run: xattrs::gets,
    },
    Measurement {
        rows: &["read", "random-read", "mmap", "io-uring"],
        run: large::reads,
    },
    Measurement {
        rows: &["exec", "imports", "ldconfig"],
        run: programs::exec,
    },
    Measurement {
        rows: &["50-starts", "50-at-once"],
        run: containers::starts,
    },
    Measurement {
        rows: &["absent", "wide-readdir"],
        run: wide::directories,
    },
    Measurement {
        rows: &["handles"],
        run: handles::decode,
    },
    Measurement {
        rows: &["20-mounts", "20-mounts-memory"],
        run: many::same_image,
    },
    Measurement {
        rows: &["mount-small", "mount-middle", "mount-large"],
        run: many::sizes,
    },
    Measurement {
        rows: &["per-file-10k", "per-file-1m"],
        run: wide::million,
    },
    Measurement {
        rows: &[
            "cold-walk-time",
            "warm-walk-time",
            "4-warm-walks-time",
            "4-cold-walks-time",
        ],
        run: timed::walks,
    },
];

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", plan] => {
            let plan = serde_json::from_str(plan).context("cannot parse the plan")?;
            run(&plan)
        }
        ["coherence", plan] => {
            let plan = serde_json::from_str(plan).context("cannot parse the plan")?;
            coherence::run(&plan)
        }
        ["topics", plan] => {
            let plan = serde_json::from_str(plan).context("cannot parse the plan")?;
            topics::run(&plan)
        }
        ["prepare", cfsctl, dir] => prepare::disk(Path::new(cfsctl), Path::new(dir)),
        _ => bail!(
            "usage: composefs-bench run PLAN | coherence PLAN | topics PLAN | prepare CFSCTL DIR"
        ),
    }
}

fn run(plan: &Plan) -> Result<()> {
    for name in &plan.rows {
        if !MEASUREMENTS.iter().any(|m| m.rows.contains(&name.as_str())) {
            bail!("no measurement has the row \"{name}\"");
        }
    }
    for measurement in MEASUREMENTS {
        for stack in Stack::ALL {
            let wanted: Vec<&str> = measurement
                .rows
                .iter()
                .copied()
                .filter(|name| plan.rows.iter().any(|row| row == name))
                .filter(|name| Row::named(name).is_some_and(|row| row.stacks.contains(&stack)))
                .filter(|_| plan.profile.is_none_or(|only| only == stack))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            // One run is enough for a million files: its value is a mean already.
            let once = |name: &&str| Row::named(name).is_some_and(|row| row.set == Set::Large);
            let repeat = match plan.profile {
                None if wanted.iter().all(once) => 1,
                _ => plan.repeat,
            };
            let mut recorder = Recorder::new(stack, wanted, plan)?;
            for _ in 0..repeat {
                (measurement.run)(plan, stack, &mut recorder)?;
            }
            recorder.report()?;
        }
    }
    Ok(())
}
