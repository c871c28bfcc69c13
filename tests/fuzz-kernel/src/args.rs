// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::path::PathBuf;

/// Fuzzes composefs. Runs in a guest, as root
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Directory for images and objects, on a file system with fs-verity; it is removed first
    #[arg(long, value_name = "DIR", default_value = "/scratch/fuzz-kernel")]
    pub dir: PathBuf,

    /// Seconds after which an operation counts as hanging, which ends the program
    #[arg(long, default_value_t = 120)]
    pub timeout: u64,

    /// What to do
    #[command(subcommand)]
    pub task: Task,
}

/// What to do.
#[derive(clap::Subcommand, Debug)]
pub enum Task {
    /// Runs new cases
    Fuzz {
        /// Directory for the case that runs, what was covered, and cases that fail
        #[arg(long, value_name = "DIR")]
        share: PathBuf,
        /// Directory of cases to begin with, where new ones are kept
        #[arg(long, value_name = "DIR")]
        corpus: PathBuf,
        /// How long
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        /// Seed of the random choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
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
