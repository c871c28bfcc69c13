// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask test`: every suite, one line a test, one summary.

mod boots;
mod citations;
mod harness;
mod host;
mod hostile;
mod kunit;
mod module;
mod patches;
mod report;
mod selftests;
mod stress;
mod watch;

use std::env;
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
    /// Runs a part of it, as `SUITE:PART`.
    part: Option<Part>,
}

type Part = fn(&Context, &mut Report, &str) -> Result<()>;

/// All suites, in the order in which they run: quick ones first.
const SUITES: &[Suite] = &[
    Suite {
        name: "host",
        about: "formatting, lints, documentation and tests of what runs on the host",
        run: host::run,
        part: None,
    },
    Suite {
        name: "module",
        about: "formatting and lints of the module, and that it cannot panic",
        run: module::run,
        part: None,
    },
    Suite {
        name: "harness",
        about: "that a guest which panics, hangs or lies does not pass",
        run: harness::run,
        part: None,
    },
    Suite {
        name: "kunit",
        about: "KUnit tests of fs/composefs/vfs, on both kernels",
        run: kunit::run,
        part: Some(kunit::part),
    },
    Suite {
        name: "selftests",
        about: "tests/selftests in the guest, by run_kselftest.sh",
        run: boots::plain,
        part: Some(boots::plain_part),
    },
    Suite {
        name: "selinux",
        about: "those that need a kernel with SELinux active",
        run: boots::selinux,
        part: None,
    },
    Suite {
        name: "patches",
        about: "the patches for a kernel tree, and some selftests on the kernel they make",
        run: patches::run,
        part: None,
    },
    Suite {
        name: "debug",
        about: "some of them on a kernel with KASAN, lockdep and more",
        run: boots::debug,
        part: Some(boots::debug_part),
    },
    Suite {
        name: "kmemleak",
        about: "that nothing is leaked, on a debug kernel that looks for it",
        run: boots::kmemleak,
        part: None,
    },
    Suite {
        name: "stress",
        about: "many threads at once on both kernels (COMPOSEFS_STRESS_SECONDS: how long)",
        run: stress::run,
        part: Some(stress::part),
    },
    Suite {
        name: "hostile",
        about: "images made to do harm on both kernels (COMPOSEFS_HOSTILE_SEED: which)",
        run: hostile::run,
        part: Some(hostile::part),
    },
];

/// Where this is set, a test that is skipped has failed: on a machine on which
/// all can run, a condition that is not met is a mistake.
const NO_SKIP: &str = "COMPOSEFS_NO_SKIP";

/// Prints the suites' names.
pub fn list() {
    for suite in SUITES {
        println!("{:<10} {}", suite.name, suite.about);
    }
}

/// Runs the suites of these names, or all. `SUITE:PART` is a part of one.
///
/// # Errors
///
/// When a name is unknown. A suite that cannot run counts as a failed test.
pub fn run(context: &Context, names: &[String]) -> Result<ExitCode> {
    let wanted: Vec<(&str, Option<&str>)> = names.iter().map(|name| split(name)).collect();
    for (name, part) in &wanted {
        let Some(suite) = SUITES.iter().find(|suite| suite.name == *name) else {
            let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
            bail!("no test suite \"{name}\"; there are: {}", known.join(" "));
        };
        if part.is_some() && suite.part.is_none() {
            bail!("the suite \"{name}\" runs as a whole only");
        }
    }
    let mut report = Report::new(env::var_os(NO_SKIP).is_some());
    for suite in SUITES {
        if names.is_empty() {
            suite.run(context, &mut report, None)?;
        }
        for (_, part) in wanted.iter().filter(|(name, _)| *name == suite.name) {
            suite.run(context, &mut report, *part)?;
        }
    }
    Ok(report.summary())
}

/// Splits `SUITE:PART`.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once(':') {
        Some((name, part)) => (name, Some(part)),
        None => (name, None),
    }
}

impl Suite {
    fn run(&self, context: &Context, report: &mut Report, part: Option<&str>) -> Result<()> {
        if signals::interrupted() {
            bail!("interrupted");
        }
        report.begin(self.name);
        let result = match (part, self.part) {
            (Some(part), Some(run)) => run(context, report, part),
            _ => (self.run)(context, report),
        };
        if let Err(error) = result {
            if signals::interrupted() {
                return Err(error);
            }
            report.fail("the suite could not run", &format!("{error:#}"));
        }
        Ok(())
    }
}
