// SPDX-License-Identifier: GPL-2.0

//! Making a case smaller although the guest may die of it: how each trial ended is on the host.
//! After the guest has died and was booted again, the same trials are made again, without running
//! those that are known.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;

use crate::case::Case;
use crate::minimise::minimise;

/// How a trial ended. Until it has, the guest has died of it.
const DIED: u8 = b'd';
const FAILED: u8 = b'f';
const PASSED: u8 = b'p';

/// The trials.
pub struct Trials {
    file: File,
    known: Vec<u8>,
    next: usize,
}

impl Trials {
    /// Reads which trials have ended.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let known = fs::read(path).unwrap_or_default();
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            file,
            known,
            next: 0,
        })
    }

    /// Makes the case smaller. `run` says how a case fails, if it does. Only what fails as the
    /// case itself counts: one that kills the guest, if that did.
    ///
    /// # Errors
    ///
    /// Those of `run`, or when the case does not fail.
    pub fn minimise(
        &mut self,
        case: &Case,
        mut run: impl FnMut(&Case) -> Result<bool>,
    ) -> Result<Option<Case>> {
        let first = self.trial(case, &mut run)?;
        if first == PASSED {
            return Ok(None);
        }
        let short = minimise(case, |case| Ok(self.trial(case, &mut run)? == first))?;
        Ok(Some(short))
    }

    fn trial(&mut self, case: &Case, run: &mut impl FnMut(&Case) -> Result<bool>) -> Result<u8> {
        let number = self.next;
        self.next += 1;
        if let Some(known) = self.known.get(number) {
            return Ok(*known);
        }
        self.file.write_all_at(&[DIED], number as u64)?;
        let ended = if run(case)? { FAILED } else { PASSED };
        self.file.write_all_at(&[ended], number as u64)?;
        self.known.push(ended);
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_guest_that_dies_is_no_obstacle() -> Result<()> {
        let path = std::env::temp_dir().join(format!("trials-{}", std::process::id()));
        let case = Case::parse("drop 0\nopen 0 /small 0\nstatfs /\nread 0 0 1 0\n")?;
        let mut boots = 0;
        let short = loop {
            boots += 1;
            let mut trials = Trials::open(&path)?;
            let result = trials.minimise(&case, |case| {
                // The guest dies if it reads, and only then.
                if case.to_string().contains("read") {
                    bail!("died");
                }
                Ok(false)
            });
            match result {
                Ok(short) => break short,
                Err(_) if boots < 20 => {}
                Err(error) => return Err(error),
            }
        };
        fs::remove_file(&path)?;
        let short = short.map(|short| short.to_string());
        assert_eq!(short.as_deref(), Some("seed small-v0\nread 0 0 0 0\n"));
        assert!(boots > 3, "{boots}");
        Ok(())
    }
}
