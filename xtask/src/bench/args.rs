// SPDX-License-Identifier: GPL-2.0

//! The options of `cargo xtask bench`.

use std::path::PathBuf;

use composefs_bench::Stack;

use crate::machine::MachineArgs;

/// Options of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// Measures only these rows; "boot" measures a system that boots, by
    /// the ways that follow it, "coherence" how often processors wait
    /// for each other's caches, in the rows that follow it, "disks" files that
    /// come from a disk, "containers" other ways to run containers, and "files"
    /// the memory of many files
    #[arg(value_name = "ROW")]
    pub rows: Vec<String>,

    /// Lists the rows
    #[arg(long)]
    pub list: bool,

    /// Measures only the most important rows, and twice; of a system, all but instructions
    #[arg(long)]
    pub quick: bool,

    /// Measures trees of a million entries as well, which takes some minutes more
    #[arg(long)]
    pub large: bool,

    /// Measures time as well, in a guest with several processors
    #[arg(long)]
    pub wall: bool,

    /// Measures each row N times
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub repeat: u32,

    /// Shows in which functions of the kernel the named rows spend instructions
    #[arg(long, requires = "rows")]
    pub profile: bool,

    /// What --profile looks at
    #[arg(long, value_name = "STACK", default_value = "composefs", value_parser = stack)]
    pub of: Stack,

    /// Numbers of processors, for "coherence"
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [2, 4, 8, 16],
        value_parser = clap::value_parser!(u32).range(1..=64))]
    pub processors: Vec<u32>,

    #[command(flatten)]
    pub machine: MachineArgs,

    /// Writes the results to this directory instead of target/bench
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Stores these figures, with which later ones are compared. If all rows were
    /// measured, writes table and plot of the documentation, too. With "disks",
    /// "containers" and "files", writes their table only
    #[arg(long)]
    pub save_baseline: bool,
}

fn stack(name: &str) -> Result<Stack, String> {
    let names = || Stack::ALL.map(|stack| stack.to_string());
    Stack::ALL
        .into_iter()
        .find(|stack| stack.to_string() == name)
        .ok_or_else(|| format!("one of {}", names().join(", ")))
}
