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

    /// The name of the file of a part, which may list dozens of programs.
    fn part(self, part: &str) -> String {
        const LONGEST: usize = 80;
        let part = match part.len() {
            ..=LONGEST => part.to_owned(),
            _ => Key::default().with("part", part).finish(),
        };
        format!("{}-part-{part}", self.name())
    }
}

/// All places that were told in a directory.
fn told(dir: &Path, by: By) -> Result<Places> {
    let mut places = Places::new();
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        if name == by.name() || name.to_string_lossy().starts_with(&by.part("")) {
            places.extend(places::read(&entry.path())?);
        }
    }
    Ok(places)
}

/// Says how many lines of a module were run, and writes which ones were not. What `by` runs in
/// several parts is told by part: the places of all parts are united, and a part that runs again
/// replaces what it told before.
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
    part: Option<&str>,
    mut run: Places,
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
    let name = part.map_or_else(|| by.name().to_owned(), |part| by.part(part));
    places::write(&dir.join(name), &run)?;
    let mut programs = Vec::new();
    for by in ALL {
        let places = told(&dir, by)?;
        if !places.is_empty() {
            programs.push((by.name(), places));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_replaces_only_itself() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let tell = |by: By, part: &str, places: &[u32]| {
            let places: Places = places.iter().copied().collect();
            places::write(&dir.path().join(by.part(part)), &places)
        };
        tell(By::Selftests, "1of2", &[1, 2])?;
        tell(By::Selftests, "2of2", &[2, 3])?;
        tell(By::Fuzzer, "1of2", &[9])?;
        tell(By::Selftests, "1of2", &[4])?;
        let places: Vec<u32> = told(dir.path(), By::Selftests)?.into_iter().collect();
        assert_eq!(places, [2, 3, 4]);
        tell(By::Selftests, &"readdir,".repeat(60), &[5])?;
        assert!(told(dir.path(), By::Selftests)?.contains(&5));
        Ok(())
    }
}
