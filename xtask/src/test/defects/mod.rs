// SPDX-License-Identifier: GPL-2.0

//! Mistakes in the module that the tests have to find: tests/defects.
//!
//! Each is put into a working tree of its own, in which a test has to fail, and for the right
//! reason.

mod defect;
mod tree;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use super::report::Report;
use super::suite::Asked;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::progress::Step;
use crate::progress::tail;
use defect::Defect;
use defect::red_lines;
use tree::Copy;

/// The piece that runs the tests of some defects without a defect.
const NONE: &str = "none";

/// The test of the parser on the host. Other tests are arguments of `cargo xtask test`.
const IMAGE: &str = "image";

/// The patches of all defects.
///
/// # Errors
///
/// When there is no patch, or a patch cannot be read or does not say what it is about.
pub fn patches(context: &Context) -> Result<Vec<PathBuf>> {
    let defects = defect::all(context)?;
    Ok(defects.into_iter().map(|defect| defect.path).collect())
}

/// The defects, by their names. A part has words with commas between them: it is the defects whose
/// names have one of them.
///
/// The tests of the defects run first without a defect. Among all suites, other suites have done
/// that.
///
/// # Errors
///
/// When a defect cannot be read, or no name fits.
pub fn list(context: &Context, asked: Asked<'_>) -> Result<Vec<String>> {
    pieces(defect::all(context)?, asked)
}

fn pieces(mut defects: Vec<Defect>, asked: Asked<'_>) -> Result<Vec<String>> {
    if let Asked::Part(words) = asked {
        defects = named(defects, words)?;
    }
    let mut tests: Vec<&str> = match asked {
        Asked::AmongAll => Vec::new(),
        _ => defects.iter().map(|defect| &defect.test[..]).collect(),
    };
    tests.sort_unstable();
    tests.dedup();
    let without = tests.iter().map(|test| format!("{NONE}={test}"));
    let names = defects.iter().map(|defect| defect.name.clone());
    Ok(without.chain(names).collect())
}

/// Those of `defects` whose names have one of the words.
fn named(defects: Vec<Defect>, words: &str) -> Result<Vec<Defect>> {
    for word in words.split(',') {
        let fits = |defect: &Defect| defect.name.contains(word);
        if word.is_empty() || !defects.iter().any(fits) {
            let known: Vec<&str> = defects.iter().map(|defect| &defect.name[..]).collect();
            bail!("no defect is called {word}; there are: {}", known.join(" "));
        }
    }
    let wanted = |defect: &Defect| words.split(',').any(|word| defect.name.contains(word));
    Ok(defects.into_iter().filter(wanted).collect())
}

/// Runs the piece of this name.
///
/// # Errors
///
/// When the tree cannot be made, or the user interrupts.
pub fn run(context: &Context, report: &mut Report, piece: &str) -> Result<()> {
    let copy = Copy::ready(context)?;
    if let Some(test) = piece.strip_prefix(&format!("{NONE}=")) {
        let ran = Ran::new(&copy, "no-defect", test)?;
        report.check(&format!("without a defect, {test} passes"), || {
            ran.expect_good()
        });
        return Ok(());
    }
    let defects = defect::all(context)?;
    let Some(defect) = defects.into_iter().find(|defect| defect.name == piece) else {
        bail!("there is no defect {piece}");
    };
    copy.apply(&defect.path)?;
    let found = find(&copy, &defect);
    copy.clean()?;
    let test = &defect.test;
    report.check(&format!("{piece} is found by {test}"), || found);
    Ok(())
}

/// Whether the test of a defect, which was applied, finds it.
fn find(copy: &Copy, defect: &Defect) -> Result<()> {
    build(copy, defect)?;
    let ran = Ran::new(copy, &defect.name, &defect.test)?;
    if ran.good {
        bail!("the tests pass, with this defect: {}", defect.breaks);
    }
    let red = red_lines(&ran.said);
    if !red.iter().any(|line| line.contains(&defect.red)) {
        let red = red.join("\n");
        bail!(
            "another test fails than one with \"{}\":\n{red}\n{}",
            defect.red,
            ran.end
        );
    }
    Ok(())
}

/// Builds what the defect is in. A defect that does not compile would be found by any test.
fn build(copy: &Copy, defect: &Defect) -> Result<()> {
    let mut cargo = cargo(copy);
    if defect.test == IMAGE {
        cargo.args(["test", "--no-run", "--package", "composefs-image"]);
    } else {
        let words: Vec<&str> = defect.test.split([':', '-']).collect();
        let named = [Flavor::Plain, Flavor::Debug]
            .into_iter()
            .find(|flavor| words.contains(&flavor.name()));
        let flavor = named.unwrap_or(Flavor::Debian);
        cargo.args(["xtask", "module", "--flavor", flavor.name()]);
    }
    let log = copy.log("build");
    let step = Step::begin(format!("building with {}", defect.name), &log)?;
    step.run(&mut cargo)
}

/// A test that has run in the copy.
struct Ran {
    good: bool,
    said: String,
    /// The last lines, for an error.
    end: String,
}

impl Ran {
    fn new(copy: &Copy, name: &str, test: &str) -> Result<Self> {
        let mut cargo = cargo(copy);
        if test == IMAGE {
            cargo.args(["test", "--no-fail-fast", "--package", "composefs-image"]);
        } else {
            cargo.args(["xtask", "test", test]);
        }
        // Not in the cache, where another clone's would be as well.
        let log = copy.log(name);
        let step = Step::begin(format!("running {test}, {name}"), &log)?;
        let good = step.status(&mut cargo)?.success();
        drop(step);
        Ok(Self {
            good,
            said: String::from_utf8_lossy(&std::fs::read(&log)?).into_owned(),
            end: format!("{}\nThe log: {}", tail(&log, 5), log.display()),
        })
    }

    fn expect_good(&self) -> Result<()> {
        if self.good {
            return Ok(());
        }
        bail!("{}\n{}", red_lines(&self.said).join("\n"), self.end);
    }
}

/// cargo in the copy.
fn cargo(copy: &Copy) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(copy.path())
        .env("CARGO_TARGET_DIR", copy.target())
        .env("CARGO_TERM_COLOR", "never")
        // The clone's, which cargo has set.
        .env_remove("CARGO_MANIFEST_DIR")
        // Short runs: the defects do not depend on chance.
        .env(super::stress::SECONDS, "20");
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defects() -> Vec<Defect> {
        let defect = |name: &str, test: &str| Defect {
            name: name.to_owned(),
            path: PathBuf::new(),
            breaks: String::new(),
            test: test.to_owned(),
            red: String::new(),
        };
        vec![
            defect("01-cookie", "selftests:readdir"),
            defect("02-bound", "image"),
            defect("03-lost-cookie", "selftests:readdir"),
        ]
    }

    #[test]
    fn tests_run_without_a_defect_unless_other_suites_run_them() -> Result<()> {
        let names = ["01-cookie", "02-bound", "03-lost-cookie"];
        assert_eq!(pieces(defects(), Asked::AmongAll)?, names);
        let controls = ["none=image", "none=selftests:readdir"];
        assert_eq!(
            pieces(defects(), Asked::Alone)?,
            [&controls[..], &names[..]].concat()
        );
        Ok(())
    }

    #[test]
    fn words_choose_defects() -> Result<()> {
        let two = ["none=selftests:readdir", "01-cookie", "03-lost-cookie"];
        assert_eq!(pieces(defects(), Asked::Part("lost,cookie"))?, two);
        for words in ["cookie,absent", "cookie,", ""] {
            assert!(pieces(defects(), Asked::Part(words)).is_err(), "{words}");
        }
        Ok(())
    }
}
