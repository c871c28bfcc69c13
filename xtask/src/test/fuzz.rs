// SPDX-License-Identifier: GPL-2.0

//! Coverage-guided fuzzing on the host: of the parsers of images and of signatures, and of
//! composefs-old-image.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;

use super::lanes;
use super::report::Report;
use crate::context::Context;
use crate::named;
use crate::packages;
use crate::progress::Step;
use crate::progress::tail;
use crate::tools;

/// How long each target is fuzzed, in seconds.
pub const SECONDS: &str = "COMPOSEFS_FUZZ_SECONDS";

/// As long, unless [`SECONDS`] says otherwise.
const USUAL: u64 = 900;

/// The targets, and their directories, each with a program `run`.
const TARGETS: [(&str, &str); 3] = [
    ("image", "tests/image/fuzz"),
    ("pkcs7", "tests/image/fuzz"),
    ("old-image", "tests/old-image/fuzz"),
];

/// Fuzzes all targets at once. Their corpora stay in the clone for the next run.
///
/// # Errors
///
/// When cargo-fuzz cannot be built, or the user interrupts.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    packages::require(context, &[packages::FUZZ])?;
    let seconds = named::number(SECONDS)?.unwrap_or(USUAL);
    let program = tools::cargo_fuzz(context)?;
    let programs = program.parent().context("cargo-fuzz has no directory")?;
    lanes::at_once(report, TARGETS.to_vec(), |(target, dir), report| {
        let run = context.repo.join(dir).join("run");
        fuzz(context, report, programs, target, &run, seconds)
    })
}

fn fuzz(
    context: &Context,
    report: &mut Report,
    programs: &Path,
    target: &str,
    run: &Path,
    seconds: u64,
) -> Result<()> {
    let log = context.cache.numbered_log(&format!("fuzz-{target}"))?;
    let step = Step::begin(format!("fuzzing {target}"), &log)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [programs.to_path_buf()];
    let path = env::join_paths(paths.into_iter().chain(env::split_paths(&path)))?;
    let status = step.status(
        Command::new(run)
            .arg(seconds.to_string())
            .arg(target)
            .env("PATH", path)
            .env("CARGO_TERM_COLOR", "never"),
    )?;
    drop(step);
    let text = fs::read(&log)?;
    let text = String::from_utf8_lossy(&text);
    match runs(&text) {
        Some(runs) if status.success() => {
            report.pass(&format!("{target}: no input fails"));
            report.figure(&format!("inputs, {target}"), runs);
        }
        _ => report.fail(
            &format!("{target}: no input fails"),
            &format!("{}\nThe log: {}", tail(&log, 20), log.display()),
        ),
    }
    Ok(())
}

/// How many inputs were tried, as libFuzzer says at its end.
fn runs(said: &str) -> Option<&str> {
    let mut lines = said.lines().rev();
    let rest = lines.find_map(|line| line.strip_prefix("Done "))?;
    let (runs, _) = rest.split_once(" runs in ")?;
    Some(runs)
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn a_run_that_breaks_off_has_no_count() {
        assert_eq!(
            runs("#2 INITED\nDone 1234 runs in 61 second(s)\n"),
            Some("1234")
        );
        assert_eq!(runs("#2 INITED\n==1== ERROR: libFuzzer: timeout\n"), None);
    }
}
