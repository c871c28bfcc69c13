// SPDX-License-Identifier: GPL-2.0

//! A guest whose job prints KTAP: its results become results of `cargo xtask test`.

use std::mem;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;

use super::report::Report;
use crate::context::Context;
use crate::kernel::Target;
use crate::ktap::Case;
use crate::ktap::Parser;
use crate::ktap::Verdict;
use crate::progress::Step;
use crate::vm;
use crate::vm::Stream;
use crate::vm::VmConfig;
use crate::vm::complaint;

/// A program that runs in the guest.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name of its log.
    pub name: String,
    /// What is being done, for the progress line.
    pub about: String,
    /// What is left out of the names of tests, because all have it.
    pub prefix: String,
    /// What is added to the names of tests and figures.
    pub suffix: String,
    /// Whether tests may be skipped. If not, a skipped test has failed.
    pub may_skip: bool,
}

impl Program {
    /// A program that runs on several kernels, and does `doing` on this one.
    pub fn on(target: impl Into<Target>, name: &str, doing: &str) -> Self {
        let kernel = target.into().name();
        Self {
            name: format!("{name}-{kernel}"),
            about: format!("{doing} on the {kernel} kernel"),
            prefix: String::new(),
            suffix: format!(" ({kernel} kernel)"),
            may_skip: true,
        }
    }
}

/// Runs the guest and reports its tests as their results come.
///
/// # Errors
///
/// When the guest did not end well, or its job failed and no test did.
pub fn watch(
    context: &Context,
    config: &VmConfig,
    report: &mut Report,
    program: &Program,
) -> Result<()> {
    watch_console(context, config, report, program).map(drop)
}

/// As [`watch`], and returns the log of the guest's console.
///
/// # Errors
///
/// As for [`watch`].
pub fn watch_console(
    context: &Context,
    config: &VmConfig,
    report: &mut Report,
    program: &Program,
) -> Result<PathBuf> {
    let log = context.cache.numbered_log(&program.name)?;
    let step = Step::begin(&program.about, &log)?;
    let mut listener = Listener::new(report, program);
    let begin = Instant::now();
    let mut since = begin;
    let outcome = vm::run(context, config, &mut |stream, bytes| {
        step.note(bytes);
        if stream != Stream::Stdout {
            return;
        }
        listener.hear(bytes, |name| {
            let took = mem::replace(&mut since, Instant::now()).elapsed().as_secs();
            step.note(format!("# {took} s: {name}\n").as_bytes());
        });
    })?;
    drop(step);
    let failed = listener.finish();
    report.guest(begin.elapsed(), complaint::count(&outcome.console));
    match &outcome.result {
        Ok(status) if is_explained(*status, failed) => Ok(outcome.console),
        Ok(status) => bail!(
            "{} ended with status {status}; its output is in {}",
            program.name,
            log.display()
        ),
        Err(failure) => bail!(
            "{}\nThe tests' output: {}",
            outcome.explain(failure),
            log.display()
        ),
    }
}

/// Whether a job may end with this status: `failed` says whether a test did.
fn is_explained(status: u8, failed: bool) -> bool {
    status == 0 || failed
}

/// Reads what a program prints, and passes the results on.
struct Listener<'a> {
    report: &'a mut Report,
    program: &'a Program,
    parser: Parser,
    /// The beginning of a line.
    partial: Vec<u8>,
    failed: bool,
}

impl<'a> Listener<'a> {
    fn new(report: &'a mut Report, program: &'a Program) -> Self {
        Self {
            report,
            program,
            parser: Parser::default(),
            partial: Vec::new(),
            failed: false,
        }
    }

    /// Reads some more. `end` is called with the name of each program of run_kselftest.sh that has
    /// ended.
    fn hear(&mut self, bytes: &[u8], mut end: impl FnMut(&str)) {
        self.partial.extend_from_slice(bytes);
        while let Some(length) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=length).collect();
            let line = String::from_utf8_lossy(&line);
            self.figure(&line);
            if let Some(name) = ended(&line) {
                end(name);
            }
            let cases = self.parser.line(&line);
            self.tell(&cases);
        }
    }

    /// There is no more to read. Returns whether a test failed.
    fn finish(mut self) -> bool {
        let mut cases = self.parser.line(&String::from_utf8_lossy(&self.partial));
        cases.extend(mem::take(&mut self.parser).finish());
        self.tell(&cases);
        self.failed
    }

    fn tell(&mut self, cases: &[Case]) {
        for case in cases {
            let verdict = match &case.verdict {
                Verdict::Skipped(why) if !self.program.may_skip => {
                    Verdict::Failed(format!("skipped: {why}"))
                }
                verdict => verdict.clone(),
            };
            self.failed |= matches!(verdict, Verdict::Failed(_));
            let name = case.name.replace(&self.program.prefix, "");
            let name = format!("{name}{}", self.program.suffix);
            self.report.case(&name, &verdict);
        }
    }

    fn figure(&mut self, line: &str) {
        if let Some((what, value)) = figure(line) {
            let what = format!("{what}{}", self.program.suffix);
            self.report.figure(&what, value);
        }
    }
}

/// The name of the program of run_kselftest.sh that ends with this line.
fn ended(line: &str) -> Option<&str> {
    let line = line.strip_prefix("not ").unwrap_or(line);
    let (_, name) = line.strip_prefix("ok ")?.split_once(" selftests: ")?;
    name.split_whitespace().nth(1)
}

/// What and value of a diagnostic line "figure: WHAT = VALUE".
fn figure(line: &str) -> Option<(&str, &str)> {
    line.trim_start_matches(['#', ' '])
        .strip_prefix("figure: ")?
        .trim_end()
        .split_once(" = ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passed and failed, if a program prints this and ends with a status.
    fn counts(said: &str, status: u8) -> Option<(u32, u32)> {
        let mut report = Report::silent();
        let program = Program {
            name: "a program".to_owned(),
            about: String::new(),
            prefix: String::new(),
            suffix: String::new(),
            may_skip: true,
        };
        let mut listener = Listener::new(&mut report, &program);
        // In whatever pieces it comes.
        for piece in said.as_bytes().chunks(5) {
            listener.hear(piece, |_| {});
        }
        let failed = listener.finish();
        is_explained(status, failed).then(|| report.counts())
    }

    #[test]
    fn what_is_not_whole_has_failed() {
        let whole = "KTAP version 1\n1..2\nok 1 a\nok 2 b\n";
        assert_eq!(counts(whole, 0), Some((2, 0)));
        let without_end = whole.strip_suffix('\n').unwrap_or_default();
        assert_eq!(counts(without_end, 0), Some((2, 0)));
        let breaks_off = "KTAP version 1\n1..2\nok 1 a\n";
        let no_plan = "KTAP version 1\nok 1 a\nok 2 b\n";
        for said in [breaks_off, no_plan, ""] {
            let failed = counts(said, 0).map_or(0, |(_, failed)| failed);
            assert!(failed > 0, "{said:?}");
        }
    }

    #[test]
    fn a_status_needs_a_test_that_failed() {
        let passed = "KTAP version 1\n1..1\nok 1 a\n";
        let failed = "KTAP version 1\n1..1\nnot ok 1 a\n";
        assert_eq!(counts(passed, 3), None);
        assert_eq!(counts(failed, 3), Some((0, 1)));
    }

    #[test]
    fn the_end_of_a_program_is_seen() {
        assert_eq!(ended("ok 3 selftests: filesystems/x: a.py\n"), Some("a.py"));
        assert_eq!(
            ended("not ok 3 selftests: filesystems/x: a.py # exit=1\n"),
            Some("a.py")
        );
        assert_eq!(ended("# ok 1 selftests: filesystems/x: a.py\n"), None);
    }

    #[test]
    fn a_figure_is_found_in_nested_diagnostics() {
        assert_eq!(
            figure("# # figure: images tried = 20000\n"),
            Some(("images tried", "20000"))
        );
        assert_eq!(figure("# a figure: no = 1\n"), None);
        assert_eq!(figure("ok 1 figure: no = 1\n"), None);
    }
}
