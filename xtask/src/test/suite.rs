// SPDX-License-Identifier: GPL-2.0

//! A suite of tests, and how it runs.

use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::boots;
use super::lanes;
use super::report::Report;
use super::selftests;
use super::selftests::Boot;
use crate::context::Context;
use crate::kernel::Flavor;

/// Some tests that belong together.
pub struct Suite {
    /// What users call it.
    pub name: &'static str,
    /// What it tests.
    pub about: &'static str,
    /// How long it takes on two processors under emulation, when all is built; or each of its
    /// pieces. The times of this machine are used where they are known.
    pub minutes: u32,
    /// How many processors it keeps busy, of [`pool::PROCESSORS`](super::pool::PROCESSORS):
    /// suites that need only one run two at a time.
    pub processors: u32,
    /// Whether it belongs to the gate.
    pub when: When,
    /// How it runs.
    pub run: Run,
}

/// When a suite runs whose name is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Gate,
    /// With `--all`.
    All,
}

/// How a suite runs.
pub enum Run {
    /// As a whole.
    Whole(fn(&Context, &mut Report) -> Result<()>),
    /// On these kernels at once, or on the one in `SUITE:KERNEL`.
    OnKernels(
        &'static [Flavor],
        fn(&Context, &mut Report, Flavor) -> Result<()>,
    ),
    /// In one boot of the guest, or only the programs in `SUITE:PROGRAM,...`.
    Selftests(&'static Boot<'static>),
    /// One after the other. A run that was stopped goes on with the first one that did not
    /// run, rather than with the suite.
    Pieces {
        /// The names of the pieces that were asked for.
        list: fn(&Context, Asked<'_>) -> Result<Vec<String>>,
        /// Runs the piece of this name.
        run: fn(&Context, &mut Report, &str) -> Result<()>,
    },
}

/// Which files of the clone a suite depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// All of them.
    All,
    /// Neither what people read nor the benchmark.
    Code,
}

/// The suites that look at texts or at the benchmark, or pack the documentation.
const READ_ALL: [&str; 3] = ["host", "patches", "packages"];

/// How a suite was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// As one of all suites, or of all in the gate.
    AmongAll,
    /// By its name.
    Alone,
    /// This part of it, by `SUITE:PART`.
    Part(&'a str),
}

/// A suite or a part of it: what runs as a whole or not at all.
pub struct Task {
    /// The suite.
    pub suite: &'static Suite,
    /// Which part of it.
    pub part: Option<String>,
}

impl Suite {
    /// Which files it depends on.
    pub fn reads(&self) -> Reads {
        match READ_ALL.contains(&self.name) {
            true => Reads::All,
            false => Reads::Code,
        }
    }

    /// What has to run for the suite, or for a part of it.
    ///
    /// # Errors
    ///
    /// When there is no such part.
    pub fn tasks(&'static self, context: &Context, asked: Asked<'_>) -> Result<Vec<Task>> {
        let task = |part: Option<String>| Task { suite: self, part };
        let part = match asked {
            Asked::Part(part) => Some(part),
            Asked::AmongAll | Asked::Alone => None,
        };
        match (&self.run, part) {
            (Run::Pieces { list, .. }, _) => {
                let pieces = list(context, asked)?;
                return Ok(pieces.into_iter().map(|piece| task(Some(piece))).collect());
            }
            (_, None) => {}
            (Run::Whole(_), Some(_)) => bail!("the suite \"{}\" has no parts", self.name),
            (Run::OnKernels(flavors, _), Some(part)) => {
                kernel(self.name, flavors, part).map(drop)?;
            }
            (Run::Selftests(_), Some(part)) => {
                selftests::check_names(context, part)?;
                boots::check_suite(self.name, part)?;
            }
        }
        Ok(vec![task(part.map(str::to_owned))])
    }
}

impl Task {
    /// SUITE or SUITE:PART.
    pub fn name(&self) -> String {
        match &self.part {
            None => self.suite.name.to_owned(),
            Some(part) => format!("{}:{part}", self.suite.name),
        }
    }

    /// How long it may take where nobody has seen it yet.
    pub fn guess(&self) -> Option<Duration> {
        let seconds = u64::from(self.suite.minutes) * 60;
        let known = self.part.is_none() || matches!(self.suite.run, Run::Pieces { .. });
        known.then(|| Duration::from_secs(seconds))
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// When it cannot be run, for another reason than that a test fails.
    pub fn run(&self, context: &Context, report: &mut Report) -> Result<()> {
        match (&self.suite.run, self.part.as_deref()) {
            (Run::Whole(run), _) => run(context, report),
            (Run::OnKernels(flavors, run), Some(name)) => {
                run(context, report, kernel(self.suite.name, flavors, name)?)
            }
            (Run::OnKernels(flavors, run), None) => {
                lanes::at_once(report, flavors.to_vec(), |flavor, report| {
                    run(context, report, flavor)
                })
            }
            (Run::Selftests(boot), Some(names)) => selftests::part(context, report, boot, names),
            (Run::Selftests(boot), None) => selftests::run(context, report, boot),
            (Run::Pieces { run, .. }, piece) => run(context, report, piece.unwrap_or_default()),
        }
    }
}

/// The kernel of this name, which has to be one of these.
fn kernel(suite: &str, flavors: &[Flavor], name: &str) -> Result<Flavor> {
    let known = flavors.iter().find(|flavor| flavor.name() == name);
    known.copied().with_context(|| {
        let names: Vec<&str> = flavors.iter().map(|flavor| flavor.name()).collect();
        format!(
            "the suite \"{suite}\" does not run on the kernel \"{name}\", but on: {}; \
             `cargo xtask test --list` says which suites run on others",
            names.join(" ")
        )
    })
}
