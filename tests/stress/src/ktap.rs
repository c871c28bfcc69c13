// SPDX-License-Identifier: GPL-2.0

//! What is said on standard output: see Documentation/dev-tools/ktap.rst of the
//! kernel. Lines of the form "# figure: WHAT = VALUE" get into xtask's table.

use std::process::ExitCode;

use anyhow::Result;

use crate::board::Board;

/// The results so far.
pub struct Ktap {
    planned: u32,
    told: u32,
    failed: bool,
}

impl Ktap {
    /// Begins with the plan.
    pub fn begin(planned: u32) -> Self {
        println!("KTAP version 1\n1..{planned}");
        Self {
            planned,
            told: 0,
            failed: false,
        }
    }

    /// A diagnostic line for each line of `text`.
    pub fn note(&self, text: &str) {
        for line in text.lines() {
            println!("# {}", line.escape_debug());
        }
    }

    /// How much was tried.
    pub fn figure(&self, what: &str, value: &str) {
        println!("# figure: {what} = {value}");
    }

    /// How often each operation was done.
    pub fn figures(&self, board: &Board, what: &str, threads: usize) {
        self.figure(what, &board.total().to_string());
        self.figure(
            &format!("{what}, threads and seconds"),
            &format!("{threads}, {}", board.length().as_secs()),
        );
        self.note(&board.to_string());
    }

    /// One test.
    pub fn test(&mut self, name: &str, result: Result<()>) {
        self.told += 1;
        if let Err(error) = &result {
            self.failed = true;
            self.note(&format!("{error:#}"));
        }
        let not = if result.is_ok() { "" } else { "not " };
        println!("{not}ok {} {name}", self.told);
    }

    /// Says that there will be no more.
    pub fn bail_out(&mut self, why: &str) {
        self.failed = true;
        println!("Bail out! {}", why.escape_debug());
    }

    /// The exit status.
    pub fn end(&self) -> ExitCode {
        if self.failed || self.told != self.planned {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
