// SPDX-License-Identifier: GPL-2.0

//! What the selftests cover, for comparison with the fuzzer: a library that is preloaded into all
//! programs in the guest notes it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

use super::coverage;
use super::coverage::Lines;
use super::coverage::Places;
use crate::cache::Key;
use crate::context::Context;
use crate::guest_program;
use crate::machine::Arch;
use crate::machine::Machine;
use crate::module;
use crate::module::Lint;
use crate::progress::say;
use crate::test::boots;
use crate::test::report::Report;
use crate::test::selftests;

/// The package and its library.
const PACKAGE: &str = "composefs-cover";
const LIBRARY: &str = "libcomposefs_cover.so";

/// What the guest does before and after the selftests. The file has a byte for each byte of the
/// module's code.
const SHELL: &str = "truncate -s 1M /run/cover\n\
                     chmod 666 /run/cover\n\
                     trap 'unset LD_PRELOAD; cp /run/cover /mnt/share/' EXIT\n\
                     cp /mnt/cover/libcomposefs_cover.so /run/\n\
                     export COMPOSEFS_COVER=/run/cover LD_PRELOAD=/run/libcomposefs_cover.so\n";

/// Runs some selftests on the debug kernel, and reports which lines they run.
///
/// # Errors
///
/// When something cannot be built, or the guest fails.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let library = guest_program::build_library(context, Arch::default(), PACKAGE)?;
    anyhow::ensure!(library.join(LIBRARY).exists(), "there is no {LIBRARY}");
    let work = context.cache.run_dir()?;
    let share = work.path().join("share");
    fs::create_dir_all(&share)?;
    let mut module = None;
    selftests::run_with(
        context,
        report,
        &boots::COVERAGE,
        Machine::default(),
        |config| {
            let built = module::make(context, &config.kernel, Lint::Coverage)?;
            config.module = Some(built.clone());
            module = Some(built);
            config.share = Some(share.clone());
            config.mounts.push(("cover".to_owned(), library.clone()));
            Ok(SHELL.to_owned())
        },
    )?;
    let module = module.context("there is no module")?;
    let bytes = fs::read(share.join("cover")).context("the guest has noted nothing")?;
    let places: Places = (0..)
        .zip(&bytes)
        .filter(|(_, byte)| **byte != 0)
        .map(|(place, _)| place)
        .collect();
    let lines = Lines::of(&module, &context.module_dir())?;
    let told = lines.report(&[("selftests", places.clone())]);
    let run = told.run.first().copied().unwrap_or(0);
    report.figure("lines of the module that selftests run", &run.to_string());
    report.figure("lines of the module", &told.lines.to_string());
    let path = file(context, &module)?;
    let text: String = places.iter().map(|place| format!("{place:x}\n")).collect();
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say("xtask: the next report of the suite fuzz-kernel has these lines, too");
    Ok(())
}

/// What the selftests have covered of this build of the module, if they have run.
///
/// # Errors
///
/// When the module cannot be read.
pub fn covered(context: &Context, module: &Path) -> Result<Option<Places>> {
    Ok(coverage::read(&file(context, module)?).ok())
}

fn file(context: &Context, module: &Path) -> Result<PathBuf> {
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let key = Key::default().with("module", bytes).finish();
    let dir = context.cache.root().join("fuzz-kernel");
    fs::create_dir_all(&dir)?;
    Ok(dir.join(format!("selftests-{key}")))
}
