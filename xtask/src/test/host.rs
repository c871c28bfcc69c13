// SPDX-License-Identifier: GPL-2.0

//! The workspace of the host: formatting, lints, documentation and tests. Also what can be
//! seen in the clone without building anything.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use super::cargo_test;
use super::citations;
use super::defects;
use super::imports;
use super::report::Report;
use super::words;
use crate::context::Context;
use crate::crates::Crates;
use crate::git::git;
use crate::packages;
use crate::progress::Step;
use crate::progress::tail;

/// Runs the suite.
///
/// # Errors
///
/// When cargo cannot be started.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    packages::require(context, &[packages::TEST])?;
    let crates = Crates::ready(context, "host", &target(context))?;
    plain(context, report, "rustfmt", &["fmt", "--all", "--check"], "")?;
    plain(
        context,
        report,
        "clippy",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "--deny=warnings",
        ],
        "",
    )?;
    plain(
        context,
        report,
        "rustdoc",
        &[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ],
        "--deny=warnings",
    )?;
    report.check("tests that the documentation names exist", || {
        citations::check(context)
    });
    report.check("imports of the module run one way", || {
        imports::check(&context.module_dir(), "composefs_main.rs", &["vfs"])
    });
    report.check("imports of xtask run one way", || {
        imports::check(&context.repo.join("xtask/src"), "main.rs", &[])
    });
    report.check("words and lines of the module", || {
        words::check(&context.module_dir())
    });
    report.check("the patches in tests/defects apply", || {
        defects_apply(context)
    });
    report.check("the manual pages have no faults", || manual_pages(context));
    let mut cargo = cargo(context);
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    cargo_test::run(context, report, "host", &mut cargo, "")?;
    crates.keep();
    Ok(())
}

/// Where cargo builds what runs on the host.
fn target(context: &Context) -> PathBuf {
    let set = env::var_os("CARGO_TARGET_DIR").filter(|set| !set.is_empty());
    set.map_or_else(|| context.repo.join("target"), PathBuf::from)
}

/// Whether the patches in tests/defects apply. They are used at night only, so nothing
/// else of the gate would notice that the code below them has changed.
fn defects_apply(context: &Context) -> Result<()> {
    for patch in defects::patches(context)? {
        let done = git()
            .current_dir(&context.repo)
            .args(["apply", "--check"])
            .arg(&patch)
            .output()?;
        if !done.status.success() {
            bail!("{}", String::from_utf8_lossy(&done.stderr));
        }
    }
    Ok(())
}

/// Whether mandoc finds no fault in the manual pages of the tools.
fn manual_pages(context: &Context) -> Result<()> {
    let mut pages: Vec<PathBuf> = Vec::new();
    for tool in fs::read_dir(context.repo.join("tools"))?.flatten() {
        let directory = tool.path().join("man");
        if directory.is_dir() {
            let entries = fs::read_dir(directory)?.flatten();
            pages.extend(entries.map(|entry| entry.path()));
        }
    }
    pages.sort();
    if pages.is_empty() {
        bail!("tools has no manual pages");
    }
    let mut mandoc = Command::new("mandoc");
    let done = mandoc.args(["-Tlint", "-Wwarning"]).args(pages).output()?;
    if !done.status.success() {
        bail!("{}", String::from_utf8_lossy(&done.stdout));
    }
    Ok(())
}

/// Runs a cargo command as one test.
fn plain(
    context: &Context,
    report: &mut Report,
    name: &str,
    arguments: &[&str],
    rustdocflags: &str,
) -> Result<()> {
    let log = context.cache.numbered_log(&format!("test-{name}"))?;
    let step = Step::begin(format!("running {name}"), &log)?;
    let mut cargo = cargo(context);
    cargo.args(arguments);
    if !rustdocflags.is_empty() {
        cargo.env("RUSTDOCFLAGS", rustdocflags);
    }
    let status = step.status(&mut cargo)?;
    drop(step);
    if status.success() {
        report.pass(name);
    } else {
        report.fail(
            name,
            &format!("{}\nThe log: {}", tail(&log, 30), log.display()),
        );
    }
    Ok(())
}

fn cargo(context: &Context) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&context.repo);
    cargo
}
