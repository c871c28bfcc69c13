// SPDX-License-Identifier: GPL-2.0

//! The files in xtask/series: the message of each patch, and the steps that make it.
//!
//! A file is the commit message, a line `---`, and one step a line:
//!
//! - `copy FROM TO`: copies a file or a directory of the clone into the kernel tree.
//! - `root FROM TO`: the same for a file with `mod` lines. Those whose module the tree
//!   does not have yet are left out, so a later patch that adds the module names the file
//!   again.
//! - `bindings FROM`: adds the includes and constants of a header to those that the
//!   kernel's bindings are made of.
//! - `edit FILE`, followed by lines that begin with a space, which are in the file, and
//!   lines that begin with `+`, which are added there.
//! - `leave PATH`: a file or directory that no patch has.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

/// What one file says.
#[derive(Debug, PartialEq)]
pub struct Recipe {
    /// The commit message.
    pub message: String,
    /// In the order in which they are taken.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Copies from the clone to the kernel.
    Copy { from: String, to: String },
    /// Copies a file without the `mod` lines of modules that are not there yet.
    Root { from: String, to: String },
    /// Adds to the kernel's bindings.
    Bindings { from: String },
    /// Adds lines to a file of the kernel.
    Edit { file: String, hunk: Hunk },
    /// Is in no patch.
    Leave { path: String },
}

/// Lines of a file, and those that are added between them.
#[derive(Debug, Default, PartialEq)]
pub struct Hunk {
    old: String,
    new: String,
}

impl Recipe {
    /// Reads all recipes of a directory, in the order of their names.
    ///
    /// # Errors
    ///
    /// When one cannot be read or makes no sense.
    pub fn all(dir: &Path) -> Result<Vec<Self>> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .with_context(|| dir.display().to_string())?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "txt"))
            .collect();
        files.sort();
        files
            .iter()
            .map(|file| {
                let text = fs::read_to_string(file)?;
                Self::parse(&text).with_context(|| file.display().to_string())
            })
            .collect()
    }

    fn parse(text: &str) -> Result<Self> {
        let (message, rest) = text.split_once("\n---\n").unwrap_or((text, ""));
        let mut steps = Vec::new();
        for line in rest.lines() {
            if let Some(Step::Edit { hunk, .. }) = steps.last_mut() {
                if let Some(kept) = line.strip_prefix(' ') {
                    hunk.push(kept, true);
                    continue;
                }
                if let Some(added) = line.strip_prefix('+') {
                    hunk.push(added, false);
                    continue;
                }
            }
            if !line.is_empty() {
                steps.push(Step::parse(line)?);
            }
        }
        Ok(Self {
            message: format!("{}\n", message.trim_end()),
            steps,
        })
    }

    /// The first line of the message.
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

impl Step {
    fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let owned = |word: &&str| (*word).to_owned();
        Ok(match &words[..] {
            ["copy", from, to] => Self::Copy {
                from: owned(from),
                to: owned(to),
            },
            ["root", from, to] => Self::Root {
                from: owned(from),
                to: owned(to),
            },
            ["bindings", from] => Self::Bindings { from: owned(from) },
            ["edit", file] => Self::Edit {
                file: owned(file),
                hunk: Hunk::default(),
            },
            ["leave", path] => Self::Leave { path: owned(path) },
            _ => bail!("no step: {line}"),
        })
    }
}

impl Hunk {
    fn push(&mut self, line: &str, kept: bool) {
        for text in [kept.then_some(&mut self.old), Some(&mut self.new)]
            .into_iter()
            .flatten()
        {
            text.push_str(line);
            text.push('\n');
        }
    }

    /// Adds the lines to `text`. `AUTHOR` stands for the author of the patches.
    ///
    /// # Errors
    ///
    /// When the kept lines are not in the text exactly once.
    pub fn apply(&self, text: &str, author: &str) -> Result<String> {
        let text = format!("\n{text}");
        let (old, new) = (format!("\n{}", self.old), format!("\n{}", self.new));
        let at = text.find(&old).filter(|at| text.rfind(&old) == Some(*at));
        let Some((before, behind)) = at.and_then(|at| text.split_at_checked(at)) else {
            bail!("the kernel's file does not have these lines once:{old}");
        };
        let behind = behind.strip_prefix(&old).unwrap_or(behind);
        let new = new.replace("AUTHOR", author);
        Ok(format!("{before}{new}{behind}").split_off(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
subject

body
---
copy a b
edit file
 one
+1.5 by AUTHOR
 two
leave c
";

    fn hunk() -> Hunk {
        Hunk {
            old: "one\ntwo\n".to_owned(),
            new: "one\n1.5 by AUTHOR\ntwo\n".to_owned(),
        }
    }

    #[test]
    fn a_recipe_is_a_message_and_steps() -> Result<()> {
        let recipe = Recipe::parse(TEXT)?;
        assert_eq!(recipe.subject(), "subject");
        assert_eq!(recipe.message, "subject\n\nbody\n");
        let steps = [
            Step::Copy {
                from: "a".to_owned(),
                to: "b".to_owned(),
            },
            Step::Edit {
                file: "file".to_owned(),
                hunk: hunk(),
            },
            Step::Leave {
                path: "c".to_owned(),
            },
        ];
        assert_eq!(recipe.steps, steps);
        Ok(())
    }

    #[test]
    fn an_unknown_step_is_an_error() {
        assert!(Recipe::parse("subject\n---\nmove a b\n").is_err());
    }

    #[test]
    fn lines_are_added_between_others() -> Result<()> {
        let text = hunk().apply("zero\none\ntwo\nthree\n", "me")?;
        assert_eq!(text, "zero\none\n1.5 by me\ntwo\nthree\n");
        Ok(())
    }

    #[test]
    fn lines_that_are_missing_or_there_twice_are_an_error() {
        assert!(hunk().apply("one\nthree\n", "me").is_err());
        assert!(hunk().apply("one\ntwo\none\ntwo\n", "me").is_err());
    }
}
