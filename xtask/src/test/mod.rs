// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask test`: every suite, one line a test, one summary.

mod boot;
mod boot_ways;
mod boots;
mod citations;
mod compile_fail;
mod deb;
mod e2fs;
mod harness;
mod host;
mod hostile;
mod imports;
mod kdir;
mod kunit;
mod lanes;
mod module;
mod old;
mod patches;
mod report;
mod selftests;
mod stress;
mod tools;
mod watch;
mod words;

use std::env;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::kernel::Flavor;
use crate::named;
use crate::signals;
use report::Report;
use selftests::Boot;

/// Some tests that belong together.
struct Suite {
    name: &'static str,
    about: &'static str,
    run: Run,
}

/// How a suite runs.
enum Run {
    /// As a whole.
    Whole(fn(&Context, &mut Report) -> Result<()>),
    /// On the plain and the debug kernel, or on the one in `SUITE:KERNEL`.
    OnKernels(fn(&Context, &mut Report, Flavor) -> Result<()>),
    /// In one boot of the guest, or only the programs in `SUITE:PROGRAM,...`.
    Selftests(&'static Boot<'static>),
}

/// All suites, in the order in which they run: quick ones first.
const SUITES: &[Suite] = &[
    Suite {
        name: "host",
        about: "formatting, lints, documentation and tests of what runs on the host",
        run: Run::Whole(host::run),
    },
    Suite {
        name: "module",
        about: "formatting and lints of the module, and that it cannot panic",
        run: Run::Whole(module::run),
    },
    Suite {
        name: "harness",
        about: "that a guest which panics, hangs or breaks off does not pass",
        run: Run::Whole(harness::run),
    },
    Suite {
        name: "kunit",
        about: "KUnit tests of fs/composefs/vfs, on both kernels",
        run: Run::OnKernels(kunit::run),
    },
    Suite {
        name: "selftests",
        about: "tests/selftests in the guest, by run_kselftest.sh",
        run: Run::Selftests(&boots::PLAIN),
    },
    Suite {
        name: "debian",
        about: "the module and the core selftests on Debian's own kernel: 1 minute",
        run: Run::Selftests(&boots::DEBIAN),
    },
    Suite {
        name: "debian-all",
        about: "all selftests on Debian's own kernel",
        run: Run::Selftests(&boots::DEBIAN_ALL),
    },
    Suite {
        name: "clients",
        about: "container tools and ostree of Debian, unmodified, on composefs: 2 minutes",
        run: Run::Selftests(&boots::CLIENTS),
    },
    Suite {
        name: "selinux",
        about: "the selftests that need SELinux",
        run: Run::Selftests(&boots::SELINUX),
    },
    Suite {
        name: "patches",
        about: "the patches for a kernel tree, and some selftests on the kernel they make",
        run: Run::Whole(patches::run),
    },
    Suite {
        name: "debug",
        about: "some selftests on a kernel with KASAN, lockdep and more",
        run: Run::Selftests(&boots::DEBUG),
    },
    Suite {
        name: "kmemleak",
        about: "the selftest for leaked memory, on the debug kernel with kmemleak",
        run: Run::Selftests(&boots::KMEMLEAK),
    },
    Suite {
        name: "stress",
        about: "many threads at once, on both kernels",
        run: Run::OnKernels(stress::run),
    },
    Suite {
        name: "hostile",
        about: "images made to do harm, on both kernels",
        run: Run::OnKernels(hostile::run),
    },
    Suite {
        name: "packages",
        about: "the Debian packages, from installation to purge, on Debian's own kernel",
        run: Run::Whole(deb::run),
    },
    Suite {
        name: "boot",
        about: "a Debian whose root is an image, and one whose root is refused: 2 minutes",
        run: Run::Whole(boot::run),
    },
    Suite {
        name: "boot-all",
        about: "updates of such a system, and attacks on its disk",
        run: Run::Whole(boot::run_all),
    },
    Suite {
        name: "boot-ways",
        about: "a Debian that boots from an image, by initramfs-tools, dracut and others",
        run: Run::Whole(boot_ways::run),
    },
    Suite {
        name: "old",
        about: "mount.composefs on Debian's kernels 6.1 and 6.12",
        run: Run::Whole(old::run),
    },
];

/// The suites that run only if they are named or all are asked for: they take long.
const ONLY_OF_ALL: [&str; 7] = [
    "boot",
    "boot-all",
    "boot-ways",
    "clients",
    "debian-all",
    "old",
    "packages",
];

/// With this variable set, a skipped test has failed: it is for machines on which every
/// test can run.
const NO_SKIP: &str = "COMPOSEFS_NO_SKIP";

/// Prints the suites' names.
pub fn list() {
    for suite in SUITES {
        let only = if suite.is_only_of_all() {
            " (with --all)"
        } else {
            ""
        };
        println!("{:<10} {}{only}", suite.name, suite.about);
    }
}

/// Runs the suites of these names. `SUITE:PART` is a part of one. Without a name, runs those
/// that do not take long, or with `all`, all of them.
///
/// # Errors
///
/// When a name or a variable of the environment is wrong. A suite that cannot run counts
/// as a failed test.
pub fn run(context: &Context, names: &[String], all: bool) -> Result<ExitCode> {
    // Before anything is built.
    for variable in [hostile::SEED, stress::SECONDS, stress::SEED] {
        named::number(variable)?;
    }
    named::directory_of(selftests::IMAGES)?;
    let wanted: Vec<(&str, Option<&str>)> = names.iter().map(|name| split(name)).collect();
    for (name, part) in &wanted {
        let Some(suite) = SUITES.iter().find(|suite| suite.name == *name) else {
            let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
            bail!(
                "there is no test suite \"{name}\"; there are: {}",
                known.join(" ")
            );
        };
        if let Some(part) = part {
            suite.check_part(context, part)?;
        }
    }
    let mut report = Report::new(env::var_os(NO_SKIP).is_some());
    for suite in SUITES {
        if names.is_empty() && (all || !suite.is_only_of_all()) {
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
    fn is_only_of_all(&self) -> bool {
        ONLY_OF_ALL.contains(&self.name)
    }

    fn check_part(&self, context: &Context, part: &str) -> Result<()> {
        match self.run {
            Run::Whole(_) => bail!("the suite \"{}\" has no parts", self.name),
            Run::OnKernels(_) => kernel(part).map(drop),
            Run::Selftests(_) => selftests::check_names(context, part),
        }
    }

    fn run(&self, context: &Context, report: &mut Report, part: Option<&str>) -> Result<()> {
        if signals::interrupted() {
            bail!("interrupted");
        }
        report.begin(self.name);
        if let Err(error) = self.run_part(context, report, part) {
            if signals::interrupted() {
                return Err(error);
            }
            report.fail("the suite could not run", &format!("{error:#}"));
        }
        Ok(())
    }

    fn run_part(&self, context: &Context, report: &mut Report, part: Option<&str>) -> Result<()> {
        match (&self.run, part) {
            (Run::Whole(run), _) => run(context, report),
            (Run::OnKernels(run), Some(name)) => run(context, report, kernel(name)?),
            (Run::OnKernels(run), None) => {
                // The plain kernel gets more done, the debug kernel sees more.
                let flavors = vec![Flavor::Plain, Flavor::Debug];
                lanes::at_once(report, flavors, |flavor, report| {
                    run(context, report, flavor)
                })
            }
            (Run::Selftests(boot), Some(names)) => selftests::part(context, report, boot, names),
            (Run::Selftests(boot), None) => selftests::run(context, report, boot),
        }
    }
}

/// The kernel of this name that loads composefs as a module.
fn kernel(name: &str) -> Result<Flavor> {
    [Flavor::Plain, Flavor::Debug]
        .into_iter()
        .find(|flavor| flavor.name() == name)
        .with_context(|| format!("there is no kernel \"{name}\"; this suite runs on: plain debug"))
}
