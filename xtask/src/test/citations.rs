// SPDX-License-Identifier: GPL-2.0

//! The threat model and tests/README.md name the tests that show each promise, as
//! "``program.py: name of the test``" or "``tests/.../file.rs: name``". These must exist.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use regex::Regex;

use crate::context::Context;

/// The pages that name tests.
const PAGES: [&str; 2] = [
    "Documentation/filesystems/composefs-threat-model.rst",
    "tests/README.md",
];

/// Checks that each test that is named exists.
///
/// # Errors
///
/// The tests that do not.
pub fn check(context: &Context) -> Result<()> {
    for page in PAGES {
        let text = fs::read_to_string(context.repo.join(page))
            .with_context(|| format!("cannot read {page}"))?;
        let citations = find(&text)?;
        if citations.is_empty() {
            bail!("{page} names no tests");
        }
        let missing: Vec<String> = citations
            .iter()
            .filter(|(file, name)| !is_there(&context.repo, file, name))
            .map(|(file, name)| format!("{file}: {name}"))
            .collect();
        if !missing.is_empty() {
            bail!(
                "{page} names tests that do not exist:\n{}",
                missing.join("\n")
            );
        }
    }
    Ok(())
}

/// File and name of each test that a page names.
fn find(page: &str) -> Result<Vec<(String, String)>> {
    let citation = Regex::new(r"``([\w/.-]+\.(?:py|rs)):\s+([^`]+)``")?;
    Ok(citation
        .captures_iter(page)
        .map(|found| (found[1].to_owned(), on_one_line(&found[2])))
        .collect())
}

/// Whether the source of a test contains the name.
fn is_there(repo: &Path, file: &str, name: &str) -> bool {
    let path = if file.contains('/') {
        repo.join(file)
    } else {
        repo.join("tests/selftests").join(file)
    };
    fs::read_to_string(path).is_ok_and(|source| joined(&source).contains(name))
}

/// A source with long strings joined that are split over lines.
fn joined(source: &str) -> String {
    let line = on_one_line(source);
    line.replace("\" f\"", "").replace("\" \"", "")
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::find;
    use super::joined;

    #[test]
    fn citations_are_found() -> anyhow::Result<()> {
        let page = "- ``a.py: one of two\n  lines``\n- ``tests/b/c.rs: fn``, ``a.py``";
        let found = find(page)?;
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(file, name)| (file.as_str(), name.as_str()))
            .collect();
        assert_eq!(
            found,
            [("a.py", "one of two lines"), ("tests/b/c.rs", "fn")]
        );
        Ok(())
    }

    #[test]
    fn long_strings_are_joined() {
        let source = "suite.add(f\"{name}: a long \"\n          \"name\", run)";
        assert!(joined(source).contains("a long name"));
        let source = "suite.add(\"a long \"\n          f\"{name}\", run)";
        assert!(joined(source).contains("a long {name}"));
    }
}
