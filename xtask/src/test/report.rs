// SPDX-License-Identifier: GPL-2.0

//! What the user sees of the tests.

use std::process::ExitCode;

use anyhow::Result;
use console::style;

use crate::ktap::Verdict;

/// The results so far.
#[derive(Default)]
pub struct Report {
    suite: String,
    passed: u32,
    failed: u32,
    skipped: u32,
    figures: Vec<(String, String)>,
}

impl Report {
    /// The tests that follow belong to this suite.
    pub fn begin(&mut self, suite: &str) {
        suite.clone_into(&mut self.suite);
    }

    /// A test that passed.
    pub fn pass(&mut self, name: &str) {
        self.passed += 1;
        println!("{} {}: {name}", style("ok  ").green(), self.suite);
    }

    /// A test that failed, and what to know of it.
    pub fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        println!("{} {}: {name}", style("FAIL").red().bold(), self.suite);
        for line in why.lines() {
            println!("       {line}");
        }
    }

    /// A test that did not run.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.skipped += 1;
        let why = if why.is_empty() {
            "no reason given"
        } else {
            why
        };
        println!("{} {}: {name} ({why})", style("skip").yellow(), self.suite);
    }

    /// A test that is a function.
    pub fn check(&mut self, name: &str, test: impl FnOnce() -> Result<()>) {
        match test() {
            Ok(()) => self.pass(name),
            Err(error) => self.fail(name, &format!("{error:#}")),
        }
    }

    /// A test of the guest.
    pub fn case(&mut self, name: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.pass(name),
            Verdict::Skipped(why) => self.skip(name, why),
            Verdict::Failed(why) => self.fail(name, why),
        }
    }

    /// How much was tried, for the table at the end.
    pub fn figure(&mut self, what: &str, value: &str) {
        self.figures
            .push((format!("{}: {what}", self.suite), value.to_owned()));
    }

    fn print_figures(&self) {
        let width = self.figures.iter().map(|(what, _)| what.len()).max();
        for (what, value) in &self.figures {
            println!("     {what:<width$}  {value}", width = width.unwrap_or(0));
        }
    }

    /// Prints the figures and the one line of the end, and says how xtask is to
    /// exit.
    pub fn summary(&self) -> ExitCode {
        self.print_figures();
        let nothing = self.passed == 0;
        if nothing && self.failed == 0 {
            eprintln!("error: no test has run");
        }
        let skipped = match self.skipped {
            0 => String::new(),
            some => format!(", {some} skipped"),
        };
        println!("{} passed, {} failed{skipped}", self.passed, self.failed);
        if self.failed > 0 || nothing {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
