// SPDX-License-Identifier: GPL-2.0

//! The patches with which composefs goes into a kernel tree, and the kernel that
//! they make.

use std::process::Command;

use anyhow::Result;

use super::boots;
use super::module;
use super::report::Report;
use super::selftests;
use crate::context::Context;
use crate::kernel;
use crate::kernel::Flavor;
use crate::kernel::Kernel;
use crate::packages;
use crate::patches;

/// What checkpatch says of every patch that adds files, of those that nobody has
/// signed yet, and of SELinux policies, in which words may repeat.
const IGNORED: &str = "FILE_PATH_CHANGES,MISSING_SIGN_OFF,REPEATED_WORD";

/// Runs the suite.
///
/// # Errors
///
/// When a guest cannot be made, or did not end well.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    packages::require(context, &[packages::TEST])?;
    if let Err(error) = kernel::can_cover(context) {
        report.skip(
            "patches",
            &format!("nobody can cover a directory here: {error:#}"),
        );
        return Ok(());
    }
    let mut kernel = None;
    report.check("the kernel builds with them", || {
        kernel = Some(kernel::make(context, Flavor::PatchedDebug, None)?);
        Ok(())
    });
    let Some(kernel) = kernel else {
        return Ok(());
    };
    report.check("each applies, and can be read in one sitting", || {
        apply(context, &kernel)
    });
    report.check("checkpatch", || checkpatch(context, &kernel));
    selftests::run(context, report, &boots::TREE)
}

fn apply(context: &Context, kernel: &Kernel) -> Result<()> {
    let dir = context.cache.run_dir()?;
    let series = patches::make(context, &kernel.tree(context)?, dir.path())?;
    patches::check(
        context,
        &kernel.tree(context)?,
        series.get(1..).unwrap_or_default(),
    )
}

fn checkpatch(context: &Context, kernel: &Kernel) -> Result<()> {
    let dir = context.cache.run_dir()?;
    let series = patches::make(context, &kernel.tree(context)?, dir.path())?;
    let mut checkpatch = Command::new(kernel.tree(context)?.join("scripts/checkpatch.pl"));
    checkpatch
        .args(["--no-tree", "--terse", "--no-summary", "--ignore", IGNORED])
        // Without the cover letter.
        .args(series.iter().skip(1));
    module::complaints(&mut checkpatch)
}
