// SPDX-License-Identifier: GPL-2.0

//! Which code of the module the tests run.

mod lines;
mod places;
mod translated;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::report::Report;
use crate::cache::Key;
use crate::context::Context;
use crate::progress::say;
use lines::Lines;

pub use places::Places;
pub use places::read;
pub use translated::Log;

/// Those that tell what they have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// tests/fuzz-kernel
    Fuzzer,
    /// tests/selftests on the debug kernel
    Selftests,
}

const ALL: [By; 2] = [By::Fuzzer, By::Selftests];

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Fuzzer => "fuzz-kernel",
            Self::Selftests => "selftests",
        }
    }
}

/// Says how many lines of a module were run, and writes which ones were not. With `more`, the
/// places are added to those of earlier runs with this module.
///
/// # Errors
///
/// When the module was not built for coverage, most places are elsewhere, or LLVM's tools
/// fail.
pub fn tell(
    context: &Context,
    report: &mut Report,
    module: &Path,
    by: By,
    mut run: Places,
    more: bool,
) -> Result<()> {
    let lines = Lines::of(module, &context.module_dir())?;
    let noted = run.len();
    run.retain(|place| lines.has(*place));
    // QEMU begins to translate at other places, too. Of an address that is wrong, one in a hundred
    // would be a place by chance.
    ensure!(
        run.len() * 10 > noted,
        "of {noted} places that were run, {} are in {}: was it loaded elsewhere?",
        run.len(),
        module.display()
    );
    // Others may be telling what they have run.
    let _lock = context.cache.lock("coverage")?;
    let dir = context.cache.of_clone("coverage", &context.repo)?;
    let dir = dir.join(Key::default().with("module", fs::read(module)?).finish());
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join(by.name());
    if more && path.exists() {
        run.extend(places::read(&path)?);
    }
    places::write(&path, &run)?;
    let mut programs = Vec::new();
    for by in ALL {
        let path = dir.join(by.name());
        if path.exists() {
            programs.push((by.name(), places::read(&path)?));
        }
    }
    let told = lines.report(&programs);
    let path = dir.join("coverage.txt");
    fs::write(&path, told.text).with_context(|| format!("cannot write {}", path.display()))?;
    let number = programs.iter().position(|(name, _)| *name == by.name());
    let lines = number.and_then(|number| told.run.get(number)).copied();
    report.figure(
        "lines of the module that were run",
        &lines.unwrap_or(0).to_string(),
    );
    report.figure("lines of the module", &told.lines.to_string());
    say(&format!("xtask: which lines were run: {}", path.display()));
    Ok(())
}
