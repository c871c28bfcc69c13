// SPDX-License-Identifier: GPL-2.0

//! What several processors do, while a plugin of QEMU counts how often they wait for each
//! other's caches.

mod jobs;
#[allow(unsafe_code, reason = "only assembler can execute a certain nop")]
mod marks;
mod operations;
mod places;
#[allow(unsafe_code, reason = "fork, and memory that processes share")]
mod processors;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Stack;
use composefs_bench::coherence::Line;
use composefs_bench::coherence::Plan;
use composefs_bench::coherence::Row;

use places::Places;
use processors::Shared;

/// Does what the plan says.
pub fn run(plan: &Plan) -> Result<()> {
    modules()?;
    let shared = Shared::new()?;
    for name in &plan.rows {
        let row = Row::named(name).with_context(|| format!("there is no row \"{name}\""))?;
        let stacks = row.stacks.iter().map(|stack| Some(*stack));
        let none = row.stacks.is_empty().then_some(None);
        for stack in stacks.chain(none) {
            window(plan, &shared, row, stack)
                .with_context(|| format!("{name} on {stack:?} failed"))?;
        }
    }
    Ok(())
}

/// Opens a window, and has each processor work in it.
fn window(plan: &Plan, shared: &Shared, row: &Row, stack: Option<Stack>) -> Result<()> {
    let places = match stack {
        Some(stack) => Places::new(plan, stack, row)?,
        None => Places::default(),
    };
    processors::run(plan.processors, shared, |turns, number| {
        operations::work(plan, row, stack, &places, turns, number)
    })?;
    let line = Line::Window(row.name.to_owned(), stack, shared.address());
    println!("{}", serde_json::to_string(&line)?);
    Ok(())
}

/// Tells where the code of modules is.
fn modules() -> Result<()> {
    for entry in fs::read_dir("/sys/module")?.flatten() {
        let text = entry.path().join("sections/.text");
        if let Ok(address) = fs::read_to_string(&text) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let address = address.trim().trim_start_matches("0x");
            let address = u64::from_str_radix(address, 16)
                .with_context(|| format!("{} is no address", text.display()))?;
            println!("{}", serde_json::to_string(&Line::Module(name, address))?);
        }
    }
    Ok(())
}

/// The directories of a tree, in the order of their names.
fn directories(top: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(top).with_context(|| top.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
