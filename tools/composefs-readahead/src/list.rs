// SPDX-License-Identifier: GPL-2.0

//! The list of what a boot reads: text, one thing a line.
//!
//! `object START LENGTH NAME` is a part of an object, in the order of first use.
//! `metadata START LENGTH` is a part of the disk where its file system has directories and inodes.

use std::fmt::Write as _;
use std::fs;
use std::path::Component;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

/// The first line.
const HEAD: &str = "composefs-readahead 1";

/// The most bytes of a list. One of a boot has some hundred lines.
const MOST: u64 = 16 << 20;

/// A part of a file or of the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
}

impl Part {
    /// How long it is.
    pub fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// A list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Names of objects, relative to the object directory, and what is read of them.
    pub objects: Vec<(String, Part)>,
    /// What is read of the disk itself.
    pub metadata: Vec<Part>,
}

impl List {
    /// Reads a list from a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no list.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || {
            let found = fs::metadata(path)?;
            // A boot is not to wait for anything else.
            if !found.is_file() || found.len() > MOST {
                bail!("is no file of at most {MOST} bytes");
            }
            Ok(fs::read_to_string(path)?)
        };
        let text = read().with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Writes it to a file, which is replaced as a whole.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let write = || {
            fs::write(&new, self.text())?;
            fs::rename(&new, path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            bail!("is no list: its first line is not \"{HEAD}\"");
        }
        let mut list = Self::default();
        for line in lines {
            let wrong = || format!("has a line that means nothing: {line}");
            let mut words = line.splitn(4, ' ');
            let mut word = || words.next().with_context(wrong);
            let kind = word()?;
            let start: u64 = word()?.parse().with_context(wrong)?;
            let length: u64 = word()?.parse().with_context(wrong)?;
            let end = start.checked_add(length).with_context(wrong)?;
            let part = Part { start, end };
            match kind {
                "object" => {
                    let name = word()?;
                    let is_normal = |part| matches!(part, Component::Normal(_));
                    if !Path::new(name).components().all(is_normal) {
                        bail!(wrong());
                    }
                    list.objects.push((name.to_owned(), part));
                }
                "metadata" => list.metadata.push(part),
                _ => bail!(wrong()),
            }
        }
        Ok(list)
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for part in &self.metadata {
            let _ = writeln!(text, "metadata {} {}", part.start, part.length());
        }
        for (name, part) in &self.objects {
            let _ = writeln!(text, "object {} {} {name}", part.start, part.length());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written() -> Result<()> {
        let list = List {
            objects: vec![
                ("ab/cd".to_owned(), Part { start: 0, end: 1 }),
                (
                    "a name".to_owned(),
                    Part {
                        start: 4096,
                        end: 9000,
                    },
                ),
            ],
            metadata: vec![Part {
                start: 65536,
                end: 131_072,
            }],
        };
        assert_eq!(List::parse(&list.text())?, list);
        Ok(())
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "",
            "object 0 1 a\n",
            "composefs-readahead 1\nobject 0 1\n",
            "composefs-readahead 1\nobject 0 x a\n",
            "composefs-readahead 1\nother 0 1 a\n",
            "composefs-readahead 1\nmetadata 18446744073709551615 1\n",
        ] {
            assert!(List::parse(text).is_err(), "{text}");
        }
    }
}
