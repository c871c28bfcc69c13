// SPDX-License-Identifier: GPL-2.0

//! A guest whose job prints KTAP: each of its tests is one of ours.

use std::time::Instant;

use anyhow::Result;
use anyhow::bail;

use super::report::Report;
use crate::context::Context;
use crate::ktap::Case;
use crate::ktap::Parser;
use crate::ktap::Verdict;
use crate::progress::Step;
use crate::vm;
use crate::vm::Stream;
use crate::vm::VmConfig;
use crate::vm::complaint;

/// What runs in the guest.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// What its log is called after.
    pub name: &'a str,
    /// What is going on, for who waits.
    pub about: &'a str,
    /// Left out of the names of tests, where all have it.
    pub prefix: &'a str,
    /// Added to the names of tests and figures.
    pub suffix: &'a str,
}

/// Runs the guest, and tells what its tests say as they say it.
///
/// # Errors
///
/// When the guest did not end well, or its job failed though no test did.
pub fn watch(
    context: &Context,
    config: &VmConfig,
    report: &mut Report,
    program: Program<'_>,
) -> Result<()> {
    let log = context.cache.numbered_log(program.name)?;
    let step = Step::begin(program.about, &log)?;
    let mut teller = Teller {
        report,
        program,
        failed: false,
    };
    let mut parser = Parser::default();
    let mut partial = Vec::new();
    let begin = Instant::now();
    let outcome = vm::run(context, config, &mut |stream, bytes| {
        step.note(bytes);
        if stream != Stream::Stdout {
            return;
        }
        partial.extend_from_slice(bytes);
        while let Some(end) = partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            teller.figure(&line);
            let cases = parser.line(&line);
            step.suspend(|| teller.tell(&cases));
        }
    })?;
    drop(step);
    teller
        .report
        .guest(begin.elapsed(), complaint::count(&outcome.console));
    let mut cases = parser.line(&String::from_utf8_lossy(&partial));
    cases.extend(parser.finish());
    teller.tell(&cases);
    match &outcome.result {
        Ok(0) => Ok(()),
        Ok(_) if teller.failed => Ok(()),
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

/// Passes on what the guest says.
struct Teller<'a> {
    report: &'a mut Report,
    program: Program<'a>,
    failed: bool,
}

impl Teller<'_> {
    fn tell(&mut self, cases: &[Case]) {
        for case in cases {
            self.failed |= matches!(case.verdict, Verdict::Failed(_));
            let name = case.name.replace(self.program.prefix, "");
            let name = format!("{name}{}", self.program.suffix);
            self.report.case(&name, &case.verdict);
        }
    }

    fn figure(&mut self, line: &str) {
        if let Some((what, value)) = figure(line) {
            let what = format!("{what}{}", self.program.suffix);
            self.report.figure(&what, value);
        }
    }
}

/// What a diagnostic line "figure: WHAT = VALUE" says.
fn figure(line: &str) -> Option<(&str, &str)> {
    line.trim_start_matches(['#', ' '])
        .strip_prefix("figure: ")?
        .trim_end()
        .split_once(" = ")
}

#[cfg(test)]
mod tests {
    use super::figure;

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
