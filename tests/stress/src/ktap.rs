// SPDX-License-Identifier: GPL-2.0

//! The results on standard output: see Documentation/dev-tools/ktap.rst of the kernel.
//! xtask shows lines of the form "# figure: WHAT = VALUE" in its table.

use std::process::ExitCode;

use anyhow::Result;

use crate::round::Round;

/// The results so far.
pub struct Ktap {
    planned: u32,
    reported: u32,
    failed: bool,
}

impl Ktap {
    /// Prints the number of planned tests.
    pub fn begin(planned: u32) -> Self {
        println!("KTAP version 1\n1..{planned}");
        Self {
            planned,
            reported: 0,
            failed: false,
        }
    }

    /// Prints a diagnostic line for each line of `text`.
    pub fn note(&self, text: &str) {
        for line in text.lines() {
            println!("# {}", line.escape_debug());
        }
    }

    /// Prints a figure for xtask's table.
    pub fn figure(&self, what: &str, value: &str) {
        println!("# figure: {what} = {value}");
    }

    /// Prints the number of operations of a round.
    pub fn figures(&self, round: &Round, what: &str, threads: usize) {
        self.figure(what, &round.total().to_string());
        self.figure(
            &format!("{what}, threads and seconds"),
            &format!("{threads}, {}", round.length().as_secs()),
        );
        self.note(&round.to_string());
    }

    /// Reports the result of a test.
    pub fn test(&mut self, name: &str, result: Result<()>) {
        self.reported += 1;
        if let Err(error) = &result {
            self.failed = true;
            self.note(&format!("{error:#}"));
        }
        let not = if result.is_ok() { "" } else { "not " };
        println!("{not}ok {} {name}", self.reported);
    }

    /// Reports that the remaining tests cannot run.
    pub fn bail_out(&mut self, why: &str) {
        self.failed = true;
        println!("Bail out! {}", why.escape_debug());
    }

    /// The exit status of the program.
    pub fn end(&self) -> ExitCode {
        if self.failed || self.reported != self.planned {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
