// SPDX-License-Identifier: GPL-2.0

//! The results of the tests, as the user sees them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use console::StyledObject;
use console::style;

use crate::ktap::Verdict;

/// The results so far.
#[derive(Default)]
pub struct Report {
    suite: String,
    /// Nothing is printed.
    silent: bool,
    /// A skipped test counts as failed.
    strict: bool,
    passed: u32,
    failed: u32,
    skipped: u32,
    figures: Vec<(String, String)>,
    guests: Guests,
}

/// All boots of the guest.
#[derive(Default)]
struct Guests {
    boots: u32,
    time: Duration,
    splats: usize,
}

impl Report {
    /// An empty report. With `strict`, a skipped test counts as failed.
    pub fn new(strict: bool) -> Self {
        Self {
            strict,
            ..Self::default()
        }
    }

    /// A report that prints nothing, for tests of xtask in which other tests fail.
    pub fn silent() -> Self {
        Self {
            silent: true,
            ..Self::default()
        }
    }

    /// An empty report for a part of the suite, which may run at the same time as others.
    pub fn part(&self) -> Self {
        Self {
            suite: self.suite.clone(),
            silent: self.silent,
            strict: self.strict,
            ..Self::default()
        }
    }

    /// Adds the results of a [`part`](Self::part) that has ended.
    pub fn add(&mut self, part: Self) {
        self.passed += part.passed;
        self.failed += part.failed;
        self.skipped += part.skipped;
        self.figures.extend(part.figures);
        self.guests.boots += part.guests.boots;
        self.guests.time += part.guests.time;
        self.guests.splats += part.guests.splats;
    }

    /// How many tests passed and failed.
    pub fn counts(&self) -> (u32, u32) {
        (self.passed, self.failed)
    }

    /// Begins a suite.
    pub fn begin(&mut self, suite: &str) {
        suite.clone_into(&mut self.suite);
    }

    /// Reports a test that passed.
    pub fn pass(&mut self, name: &str) {
        self.passed += 1;
        self.print(&style("ok  ").green(), name);
    }

    /// Reports a test that failed, and why.
    pub fn fail(&mut self, name: &str, why: &str) {
        self.failed += 1;
        let mut text = name.to_owned();
        for line in why.lines() {
            text.push_str("\n       ");
            text.push_str(line);
        }
        self.print(&style("FAIL").red().bold(), &text);
    }

    /// Reports a test that was skipped, and why.
    pub fn skip(&mut self, name: &str, why: &str) {
        let why = if why.is_empty() {
            "no reason given"
        } else {
            why
        };
        if self.strict {
            self.fail(
                name,
                &format!("skipped ({why}), which COMPOSEFS_NO_SKIP forbids"),
            );
            return;
        }
        self.skipped += 1;
        self.print(&style("skip").yellow(), &format!("{name} ({why})"));
    }

    fn print(&self, result: &StyledObject<&str>, text: &str) {
        if !self.silent {
            println!("{result} {}: {text}", self.suite);
        }
    }

    /// Runs a function as a test, and reports it.
    pub fn check(&mut self, name: &str, test: impl FnOnce() -> Result<()>) {
        match test() {
            Ok(()) => self.pass(name),
            Err(error) => self.fail(name, &format!("{error:#}")),
        }
    }

    /// Reports a test of the guest.
    pub fn case(&mut self, name: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.pass(name),
            Verdict::Skipped(why) => self.skip(name, why),
            Verdict::Failed(why) => self.fail(name, why),
        }
    }

    /// Adds a figure to the table at the end.
    pub fn figure(&mut self, what: &str, value: &str) {
        self.figures
            .push((format!("{}: {what}", self.suite), value.to_owned()));
    }

    /// Adds a boot of the guest: its time, and how often its kernel complained.
    pub fn guest(&mut self, time: Duration, splats: usize) {
        self.guests.boots += 1;
        self.guests.time += time;
        self.guests.splats += splats;
    }

    fn print_figures(&self) {
        let Guests {
            boots,
            time,
            splats,
        } = self.guests;
        let mut figures = self.figures.clone();
        if boots > 0 {
            let minutes = format!("{boots}, {}", time.as_secs().div_ceil(60));
            figures.push(("all: boots of the guest, minutes".to_owned(), minutes));
            figures.push(("all: splats".to_owned(), splats.to_string()));
        }
        let width = figures.iter().map(|(what, _)| what.len()).max();
        for (what, value) in &figures {
            println!("     {what:<width$}  {value}", width = width.unwrap_or(0));
        }
    }

    /// Prints the figures and the counts. Returns the exit status for xtask.
    pub fn summary(&self) -> ExitCode {
        self.print_figures();
        if self.counts() == (0, 0) {
            eprintln!("error: no test was run");
        }
        let skipped = match self.skipped {
            0 => String::new(),
            some => format!(", {some} skipped"),
        };
        println!("{} passed, {} failed{skipped}", self.passed, self.failed);
        if self.is_good() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// Whether nothing failed and something passed.
    fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_among_many_counts() {
        let mut report = Report::silent();
        report.pass("one");
        assert!(report.is_good());
        report.fail("two", "why");
        report.pass("three");
        assert!(!report.is_good());
        assert_eq!(report.counts(), (2, 1));
    }

    #[test]
    fn a_failure_in_a_part_counts() {
        let mut report = Report::silent();
        let mut part = report.part();
        part.fail("one", "why");
        report.pass("two");
        report.add(part);
        assert!(!report.is_good());
        assert_eq!(report.counts(), (1, 1));
    }

    #[test]
    fn what_is_skipped_fails_where_nothing_may_be() {
        let mut report = Report {
            strict: true,
            ..Report::silent()
        };
        report.pass("one");
        report.skip("two", "no disk");
        assert!(!report.is_good());
        assert_eq!(report.counts(), (1, 1));
    }

    #[test]
    fn nothing_is_no_success() {
        let mut report = Report::silent();
        assert!(!report.is_good());
        report.skip("one", "no disk");
        assert!(!report.is_good());
    }
}
