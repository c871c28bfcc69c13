// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask test`: every suite, one line a test, one summary.

mod boots;
mod harness;
mod host;
mod module;
mod report;
mod selftests;
mod stress;
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::signals;
use report::Report;

/// Some tests that belong together.
struct Suite {
    name: &'static str,
    about: &'static str,
    run: fn(&Context, &mut Report) -> Result<()>,
}

/// All suites, in the order in which they run: quick ones first.
const SUITES: [Suite; 6] = [
    Suite {
        name: "host",
        about: "formatting, lints, documentation and tests of what runs on the host",
        run: host::run,
    },
    Suite {
        name: "module",
        about: "formatting and lints of the module, and that it cannot panic",
        run: module::run,
    },
    Suite {
        name: "harness",
        about: "that a guest which panics, hangs or lies does not pass",
        run: harness::run,
    },
    Suite {
        name: "selftests",
        about: "tests/selftests in the guest, by run_kselftest.sh",
        run: boots::plain,
    },
    Suite {
        name: "debug",
        about: "some of them on a kernel with KASAN, lockdep and more",
        run: boots::debug,
    },
    Suite {
        name: "stress",
        about: "many threads at once on both kernels (COMPOSEFS_STRESS_SECONDS: how long)",
        run: stress::run,
    },
];

/// Prints the suites' names.
pub fn list() {
    for suite in SUITES {
        println!("{:<10} {}", suite.name, suite.about);
    }
}

/// Runs the suites of these names, or all.
///
/// # Errors
///
/// When a name is unknown. A suite that cannot run counts as a failed test.
pub fn run(context: &Context, names: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !SUITES.iter().any(|suite| suite.name == name.as_str()))
    {
        let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        bail!(
            "no test suite \"{unknown}\"; there are: {}",
            known.join(" ")
        );
    }
    let mut report = Report::default();
    for suite in &SUITES {
        if !names.is_empty() && !names.iter().any(|name| name == suite.name) {
            continue;
        }
        if signals::interrupted() {
            bail!("interrupted");
        }
        report.begin(suite.name);
        if let Err(error) = (suite.run)(context, &mut report) {
            if signals::interrupted() {
                return Err(error);
            }
            report.fail("the suite could not run", &format!("{error:#}"));
        }
    }
    Ok(report.summary())
}
