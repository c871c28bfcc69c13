// SPDX-License-Identifier: GPL-2.0

//! composefs-readahead: reads ahead what a boot from a composefs image needs.
//!
//! One boot records which objects it reads, and later ones read them ahead, with few requests
//! to the disk. `order` puts them next to each other on the disk first.

mod ahead;
mod list;
mod order;
mod record;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

use list::List;
use store::Store;

/// Reads ahead what a boot from a composefs image needs
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the list of what this boot has read
    ///
    /// The kernel must have been booted with
    /// trace_event=filemap:mm_filemap_add_to_page_cache on its command line
    Record {
        /// The object directory of the root (basedir=)
        objects: PathBuf,
        /// The list to write
        list: PathBuf,
        /// What the kernel has traced
        #[arg(long, default_value = "/sys/kernel/tracing/trace")]
        trace: PathBuf,
    },
    /// Writes the objects of a list anew, so that they are next to each other on the disk
    ///
    /// They keep their names and digests, and may be in use. Only ext4 gains from it
    Order {
        /// The object directory
        objects: PathBuf,
        /// The list
        list: PathBuf,
    },
    /// Reads what is in a list
    Run {
        /// The object directory
        objects: PathBuf,
        /// The list
        list: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("composefs-readahead: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Record {
            objects,
            list,
            trace,
        } => {
            let made = record::record(&Store::open(&objects)?, &trace)?;
            println!("{} objects", made.objects.len());
            made.write(&list)
        }
        Command::Order { objects, list } => {
            let count = order::order(&Store::open(&objects)?, &List::read(&list)?)?;
            println!("{count} objects were written anew");
            Ok(())
        }
        Command::Run { objects, list } => ahead::run(&Store::open(&objects)?, &List::read(&list)?),
    }
}
