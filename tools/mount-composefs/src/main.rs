// SPDX-License-Identifier: GPL-2.0

//! `mount.composefs`: mounts an image. mount(8) runs it for the type composefs. Cargo can make no
//! program with a dot in its name, so it gets this name when it is installed.
//!
//! It takes the options of the composefs project's program of this name, with the same defaults,
//! and those of mount(8). `man/mount.composefs.8` describes it.

mod command;
mod failure;
mod flags;
mod namespace;
mod options;
mod optstr;
mod run;

use std::process::ExitCode;

use crate::command::Request;
use crate::failure::Failure;

fn main() -> ExitCode {
    let done = match command::parse(lexopt::Parser::from_env()) {
        Ok(Request::Help) => print(command::USAGE),
        Ok(Request::Version) => print(command::VERSION),
        Ok(Request::Mount(command)) => run::run(&command),
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit.into()
        }
    }
}

/// Prints what was asked for.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;

    let done = std::io::stdout().write_all(text.as_bytes());
    done.map_err(|error| Failure::system(&[&"Failed to write: ", &failure::reason(&error)]))
}
