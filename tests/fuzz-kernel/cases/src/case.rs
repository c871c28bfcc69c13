// SPDX-License-Identifier: GPL-2.0

//! A case: an image, and a program of operations on mounts of it. As text, it is a file that
//! people can read:
//!
//! ```text
//! seed small-v0
//! change 1060 03000000
//! mount memfd named store usual attached
//! open 0 /small 0
//! read 0 4096 100 0
//! ```

use std::fmt;
use std::fmt::Write as _;
use std::hash::Hash;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;

use crate::grammar::Kind;
use crate::grammar::Op;
use crate::seeds;

/// The largest number of operations of a case.
pub const OPS_MAX: usize = 24;

/// The most bytes of an image that may be changed.
pub const CHANGED_MAX: usize = 2048;

/// The longest image.
pub const LENGTH_MAX: u32 = 1 << 20;

/// Bytes of the image that differ from the seed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// Where they begin.
    pub at: u32,
    /// What is there instead.
    pub bytes: Vec<u8>,
}

/// A case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Case {
    /// Number of the seed, the good image.
    pub seed: u32,
    /// Another length than that of the seed.
    pub length: Option<u32>,
    /// What differs from it.
    pub changes: Vec<Change>,
    /// What is done.
    pub ops: Vec<Op>,
}

impl Case {
    /// The image that the case is about, made of its seed.
    pub fn image(&self, seed: &[u8]) -> Vec<u8> {
        let mut image = seed.to_vec();
        if let Some(length) = self.length {
            image.resize(length.min(LENGTH_MAX) as usize, 0);
        }
        for change in &self.changes {
            let end = (change.at as usize).saturating_add(change.bytes.len());
            if let Some(place) = image.get_mut(change.at as usize..end) {
                place.copy_from_slice(&change.bytes);
            }
        }
        image
    }

    /// Notes how an image differs from the seed. Returns false, and changes nothing, if it does
    /// in too much.
    pub fn set_image(&mut self, seed: &[u8], image: &[u8]) -> bool {
        let changes = changes(seed, image);
        let changed: usize = changes.iter().map(|change| change.bytes.len()).sum();
        let Ok(length) = u32::try_from(image.len()) else {
            return false;
        };
        if changed > CHANGED_MAX || length > LENGTH_MAX {
            return false;
        }
        self.length = (image.len() != seed.len()).then_some(length);
        self.changes = changes;
        true
    }

    /// Whether the image is the seed.
    pub fn is_unchanged(&self) -> bool {
        self.length.is_none() && self.changes.is_empty()
    }

    /// Reads a case. Empty lines and those with `#` are comments.
    ///
    /// # Errors
    ///
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let mut case = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            case.line(line)
                .with_context(|| format!("the line \"{line}\""))?;
        }
        Ok(case)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let mut words = line.split(' ');
        match words.next().unwrap_or_default() {
            "seed" => {
                let name = words.next().unwrap_or_default();
                let known = seeds::NAMES.iter().position(|known| *known == name);
                self.seed = known.context("there is no such seed")? as u32;
            }
            "length" => self.length = Some(words.next().context("no length")?.parse()?),
            "change" => self.changes.push(Change {
                at: words.next().context("no place")?.parse()?,
                bytes: from_hex(words.next().unwrap_or_default())?,
            }),
            name => {
                let Some(kind) = Kind::by_name(name) else {
                    bail!("there is no operation \"{name}\"");
                };
                let rest: Vec<&str> = words.by_ref().collect();
                self.ops.push(Op::parse(kind, &rest)?);
            }
        }
        if words.next().is_some() {
            bail!("too many words");
        }
        Ok(())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = seeds::NAMES.get(self.seed as usize);
        writeln!(f, "seed {}", seed.unwrap_or(&seeds::NAMES[0]))?;
        if let Some(length) = self.length {
            writeln!(f, "length {length}")?;
        }
        for change in &self.changes {
            writeln!(f, "change {} {}", change.at, hex(&change.bytes))?;
        }
        for op in &self.ops {
            writeln!(f, "{op}")?;
        }
        Ok(())
    }
}

/// The parts of `new` that differ from `old`. What is behind the end of `old` differs from zero
/// bytes.
fn changes(old: &[u8], new: &[u8]) -> Vec<Change> {
    /// So many equal bytes do not begin a new part.
    const GAP: usize = 4;
    let mut changes: Vec<Change> = Vec::new();
    for (at, byte) in new.iter().enumerate() {
        if *byte == old.get(at).copied().unwrap_or(0) {
            continue;
        }
        match changes.last_mut() {
            Some(last) if at < last.at as usize + last.bytes.len() + GAP => {
                let from = last.at as usize + last.bytes.len();
                let between = new.get(from..=at).unwrap_or_default();
                last.bytes.extend_from_slice(between);
            }
            _ => changes.push(Change {
                at: at as u32,
                bytes: vec![*byte],
            }),
        }
    }
    changes
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect();
    let digits = digits.context("not hexadecimal")?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_same_when_read_again() -> Result<()> {
        let text = "seed wide-v1\nlength 8192\nchange 1060 0300ff\n\
                    mount memfd named store usual attached\nopen 0 /small 2048\n";
        let case = Case::parse(text)?;
        assert_eq!(case.to_string(), text);
        assert_eq!(case.ops.len(), 2);
        Ok(())
    }

    #[test]
    fn a_wrong_line_is_named() {
        for text in [
            "seed none",
            "open 0",
            "leap 1",
            "open 0 /small 0 0",
            "change 1 xx",
        ] {
            let error = Case::parse(text)
                .map(drop)
                .map_err(|error| error.to_string());
            assert_eq!(error, Err(format!("the line \"{text}\"")));
        }
    }

    #[test]
    fn changes_make_the_image_again() {
        let seed = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        let image = [1, 9, 3, 9, 5, 6, 7, 8, 9, 10, 0, 7];
        let mut case = Case::default();
        assert!(case.is_unchanged());
        assert!(case.set_image(&seed, &image));
        assert_eq!(case.changes.len(), 2);
        assert_eq!(case.image(&seed), image);
        assert!(case.set_image(&seed, &seed[..5]));
        assert_eq!(case.image(&seed), seed[..5]);
        assert!(!case.is_unchanged());
    }

    #[test]
    fn an_image_that_differs_in_too_much_is_not_taken() {
        let mut case = Case::default();
        assert!(!case.set_image(&[0; 4096], &[1; 4096]));
        assert!(case.is_unchanged());
    }
}
