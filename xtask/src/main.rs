// SPDX-License-Identifier: GPL-2.0

//! The build harness of composefs for Linux: kernel, module, guest, tests.
//!
//! Every command first makes what it needs, so any of them may be the first one that a
//! user runs. What is made is kept in the [cache](cache::Cache), outside the clone.

mod bench;
mod boot;
mod build_root;
mod cache;
mod chroot;
mod cli;
mod context;
mod crates;
mod cross;
mod deb;
mod debian;
mod demo;
mod emulation;
mod files;
mod fixtures;
mod git;
mod guest;
mod guest_disk;
mod guest_program;
mod kernel;
mod ktap;
mod llvm;
mod machine;
mod module;
mod named;
mod packages;
mod patches;
mod path;
mod progress;
mod rust;
mod setup;
mod signals;
mod source;
mod sync;
mod test;
mod toolchain;
mod tools;
mod vm;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    signals::install();
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if signals::interrupted() {
                ExitCode::from(130)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
