// SPDX-License-Identifier: GPL-2.0

//! Rules for the module's text that neither the compiler nor checkpatch.pl checks.

use std::fs;
use std::path::Path;

use anyhow::Result;
use anyhow::bail;

use super::module::files;

/// Longest line of Rust, in characters. checkpatch.pl checks that of C.
const COLUMNS: usize = 100;

/// Most lines of code in an unsafe block: one SAFETY comment is to say why each of them holds.
const UNSAFE_LINES: usize = 10;

/// Words that the module does not use, and the ones it uses instead.
const REPLACED: [(&str, &str); 1] = [("blob", "object")];

/// Names of the kernel that have such a word in them.
const OF_THE_KERNEL: [&str; 2] = ["fs_value_is_blob", "__bindgen_anon_1.blob"];

/// Checks the source files in `dir` and below.
///
/// # Errors
///
/// The lines that break a rule.
pub fn check(dir: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    for path in files(dir, &["rs", "c", "h"])? {
        let rust = path.extension().is_some_and(|extension| extension == "rs");
        let text = fs::read_to_string(&path)?;
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(why) = fault(line, rust) {
                wrong.push(format!("{}:{number}: {why}", path.display()));
            }
        }
        for (number, lines) in unsafe_blocks(&text) {
            if lines > UNSAFE_LINES {
                wrong.push(format!(
                    "{}:{number}: an unsafe block of {lines} lines, more than {UNSAFE_LINES}",
                    path.display()
                ));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn fault(line: &str, rust: bool) -> Option<String> {
    let lower = OF_THE_KERNEL
        .iter()
        .fold(line.to_lowercase(), |line, name| line.replace(name, ""));
    let replaced = REPLACED.iter().find(|(word, _)| lower.contains(word));
    match replaced {
        Some((word, instead)) => Some(format!("\"{word}\": the word here is \"{instead}\"")),
        None if rust && line.chars().count() > COLUMNS => {
            Some(format!("more than {COLUMNS} columns"))
        }
        None => None,
    }
}

/// The unsafe blocks of Rust code that rustfmt has formatted, except those on one line: the
/// number of the first line, and how many lines of code are in it.
fn unsafe_blocks(text: &str) -> Vec<(usize, usize)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().collect();
    (1..)
        .zip(&lines)
        .filter(|(_, line)| line.ends_with("unsafe {") && !line.trim_start().starts_with("//"))
        .map(|(number, first)| {
            let block = lines.iter().skip(number);
            let block = block.take_while(|line| line.is_empty() || indent(line) > indent(first));
            let is_code = |line: &&&str| {
                let line = line.trim_start();
                !line.is_empty() && !line.starts_with("//")
            };
            (number, block.filter(is_code).count())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_unsafe_blocks_are_counted() {
        let text = "fn f() {\n    let x = unsafe {\n        // Why.\n        g();\n\n        h()\n    \
                    };\n    unsafe {\n        g()\n    }\n    g();\n}\n";
        assert_eq!(unsafe_blocks(text), [(2, 2), (8, 1)]);
    }

    #[test]
    fn faults_are_found() {
        let long = "x".repeat(COLUMNS + 1);
        for (line, rust, wrong) in [
            ("/// Opens the Blob.", true, true),
            ("an object", true, false),
            ("bindings::fs_value_type_fs_value_is_blob => {", true, false),
            ("fs_value_is_blob is a blob", false, true),
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
