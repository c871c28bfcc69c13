// SPDX-License-Identifier: GPL-2.0

//! The results of a suite's tests, as the user sees them.

use std::time::Duration;

use anyhow::Result;
use console::StyledObject;
use console::style;

use super::outcome::Outcome;
use crate::ktap::Verdict;
use crate::progress::print;
use crate::signals;

/// The results so far.
#[derive(Default)]
pub struct Report {
    suite: String,
    /// Nothing is printed.
    silent: bool,
    /// A skipped test counts as failed.
    strict: bool,
    outcome: Outcome,
}

impl Report {
    /// An empty report of a suite. With `strict`, a skipped test counts as failed.
    pub fn new(suite: &str, strict: bool) -> Self {
        Self {
            suite: suite.to_owned(),
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
        self.outcome.add(part.outcome);
    }

    /// How many tests passed and failed.
    pub fn counts(&self) -> (u32, u32) {
        (self.outcome.passed, self.outcome.failed)
    }

    /// All results.
    pub fn into_outcome(self) -> Outcome {
        self.outcome
    }

    /// Reports a test that passed.
    pub fn pass(&mut self, name: &str) {
        self.outcome.passed += 1;
        self.print(&style("ok  ").green(), name);
    }

    /// Reports a test that failed, and why. What fails because the user has interrupted is
    /// no result.
    pub fn fail(&mut self, name: &str, why: &str) {
        if signals::interrupted() {
            return;
        }
        self.outcome.failed += 1;
        self.outcome
            .failures
            .push(format!("{}: {name}", self.suite));
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
        self.outcome.skipped += 1;
        self.print(&style("skip").yellow(), &format!("{name} ({why})"));
    }

    fn print(&self, result: &StyledObject<&str>, text: &str) {
        if !self.silent {
            print(&format!("{result} {}: {text}", self.suite));
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
        self.outcome
            .figures
            .push((format!("{}: {what}", self.suite), value.to_owned()));
    }

    /// Adds a boot of the guest: its time, and how often its kernel complained.
    pub fn guest(&mut self, time: Duration, splats: usize) {
        self.outcome.guests.boots += 1;
        self.outcome.guests.time += time;
        self.outcome.guests.splats += splats;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_among_many_counts() {
        let mut report = Report::silent();
        report.pass("one");
        report.fail("two", "why");
        report.pass("three");
        assert_eq!(report.counts(), (2, 1));
        let outcome = report.into_outcome();
        assert!(!outcome.is_good());
        assert_eq!(outcome.failures, [": two"]);
    }

    #[test]
    fn a_failure_in_a_part_counts() {
        let mut report = Report::silent();
        let mut part = report.part();
        part.fail("one", "why");
        report.pass("two");
        report.add(part);
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
        assert_eq!(report.counts(), (1, 1));
    }
}
