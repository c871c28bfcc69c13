// SPDX-License-Identifier: GPL-2.0

//! Rules for the module's text that neither the compiler nor checkpatch.pl checks.

use std::fs;
use std::path::Path;

use anyhow::Result;
use anyhow::bail;

use super::module::files;

/// Longest line of Rust, in characters. checkpatch.pl checks that of C.
const COLUMNS: usize = 100;

/// Words that the module does not use, and the ones it uses instead.
const REPLACED: [(&str, &str); 1] = [("blob", "object")];

/// Checks the source files in `dir` and below.
///
/// # Errors
///
/// The lines that break a rule.
pub fn check(dir: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    for path in files(dir, &["rs", "c", "h"])? {
        let rust = path.extension().is_some_and(|extension| extension == "rs");
        for (number, line) in (1..).zip(fs::read_to_string(&path)?.lines()) {
            if let Some(why) = fault(line, rust) {
                wrong.push(format!("{}:{number}: {why}", path.display()));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn fault(line: &str, rust: bool) -> Option<String> {
    let lower = line.to_lowercase();
    let replaced = REPLACED.iter().find(|(word, _)| lower.contains(word));
    match replaced {
        Some((word, instead)) => Some(format!("\"{word}\": the word here is \"{instead}\"")),
        None if rust && line.chars().count() > COLUMNS => {
            Some(format!("more than {COLUMNS} columns"))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found() {
        let long = "x".repeat(COLUMNS + 1);
        for (line, rust, wrong) in [
            ("/// Opens the Blob.", true, true),
            ("an object", true, false),
            (long.as_str(), true, true),
            (long.as_str(), false, false),
        ] {
            assert_eq!(fault(line, rust).is_some(), wrong, "{line}");
        }
    }

    #[test]
    fn the_file_and_the_line_are_named() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("vfs"))?;
        fs::write(dir.path().join("vfs/trace.h"), "one\na blob\n")?;
        let said = check(dir.path()).err().map(|error| error.to_string());
        assert!(said.is_some_and(|said| said.contains("vfs/trace.h:2: \"blob\"")));
        Ok(())
    }
}
