// SPDX-License-Identifier: GPL-2.0

//! Which lines of the module were run. The kernel notes places in the code, and the debugging
//! information of the module tells to which lines they belong.
//!
//! A line counts if one of the module's basic blocks begins in it, or in a function that was
//! inlined there.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::places::Places;
use crate::llvm::Llvm;
use crate::progress::output;

/// What a basic block calls, by which the kernel notes it.
const CALL: &str = "__sanitizer_cov_trace_pc";

/// A call has its target in the last four bytes, and the place that is noted is the one behind
/// the call.
const TARGET: u32 = 4;

/// A line: file and number.
type Line = (String, u32);

/// The lines of a module.
pub struct Lines {
    /// Those of each place that can be noted.
    of: BTreeMap<u32, Vec<Line>>,
}

impl Lines {
    /// Reads them from a module, whose source is in a directory.
    ///
    /// # Errors
    ///
    /// When it was not built for coverage, or LLVM's tools fail.
    pub fn of(module: &Path, source: &Path) -> Result<Self> {
        let llvm = Llvm::find().context("there is no LLVM")?;
        let mut readelf = Command::new(llvm.program("llvm-readelf"));
        let relocations = output(readelf.args(["-r", "-W"]).arg(module))?;
        let places = places(&relocations);
        ensure!(
            !places.is_empty(),
            "{} was not built for coverage",
            module.display()
        );
        let asked = places.iter().map(|place| u64::from(place - TARGET - 1));
        let said = llvm.symbolize(module, &["--functions=none"], asked)?;
        let prefix = format!("{}/", source.display());
        let lines = said.split("\n\n").map(|frames| lines(frames, &prefix));
        Ok(Self {
            of: places.into_iter().zip(lines).collect(),
        })
    }

    /// Whether the kernel would note a place.
    pub fn has(&self, place: u32) -> bool {
        self.of.contains_key(&place)
    }

    /// The lines of places.
    fn run(&self, places: &Places) -> BTreeSet<&Line> {
        let lines = places.iter().filter_map(|place| self.of.get(place));
        lines.flatten().collect()
    }

    /// A report: for each file, how many of its lines were run by each of several programs, and
    /// by all of them. Then the lines that none of them ran.
    pub fn report(&self, programs: &[(&str, Places)]) -> Report {
        let all: BTreeSet<&Line> = self.of.values().flatten().collect();
        let runs: Vec<BTreeSet<&Line>> = programs
            .iter()
            .map(|(_, places)| self.run(places))
            .collect();
        let any: BTreeSet<&Line> = runs.iter().flatten().copied().collect();
        let mut text = String::new();
        for (name, _) in programs {
            let _ = write!(text, "{name:>12} ");
        }
        let _ = writeln!(text, "{:>12} {:>6}  file", "all", "lines");
        let mut files: BTreeSet<&str> = all.iter().map(|line| line.0.as_str()).collect();
        files.insert("");
        let is_of = |line: &&Line, file: &str| file.is_empty() || line.0 == file;
        for file in &files {
            let lines = all.iter().filter(|line| is_of(line, file)).count();
            for run in runs.iter().chain([&any]) {
                let run = run.iter().filter(|line| is_of(line, file)).count();
                let percent = (100 * run).checked_div(lines).unwrap_or(0);
                let _ = write!(text, "{run:>6} {percent:>3} % ");
            }
            let _ = writeln!(
                text,
                "{lines:>6}  {}",
                if file.is_empty() { "all" } else { *file }
            );
        }
        let _ = writeln!(text, "\nLines that were not run:\n");
        for file in files {
            let missed: Vec<u32> = all
                .difference(&any)
                .filter(|line| !file.is_empty() && line.0 == file)
                .map(|line| line.1)
                .collect();
            if !missed.is_empty() {
                let _ = writeln!(text, "{file}: {}", ranges(&missed));
            }
        }
        Report {
            text,
            lines: all.len(),
            run: runs.iter().map(BTreeSet::len).collect(),
        }
    }
}

/// A report.
pub struct Report {
    /// For people.
    pub text: String,
    /// How many lines can be run.
    pub lines: usize,
    /// How many of them each of the programs has run.
    pub run: Vec<usize>,
}

/// The places behind calls in the section .text.
fn places(relocations: &str) -> Vec<u32> {
    let mut places = Vec::new();
    let mut in_text = false;
    for line in relocations.lines() {
        if let Some(section) = line.strip_prefix("Relocation section '") {
            in_text = section.starts_with(".rela.text'");
        } else if in_text && line.contains(CALL) {
            let at = line.split_whitespace().next().unwrap_or_default();
            places.extend(u32::from_str_radix(at, 16).map(|at| at + TARGET));
        }
    }
    places
}

/// The lines in a stack of inlined functions that are below a directory.
fn lines(frames: &str, prefix: &str) -> Vec<Line> {
    let line = |frame: &str| {
        let mut parts = frame.strip_prefix(prefix)?.rsplitn(3, ':').skip(1);
        let number = parts.next()?.parse().ok()?;
        Some((parts.next()?.to_owned(), number))
    };
    frames
        .lines()
        .filter_map(line)
        .filter(|line| line.1 != 0)
        .collect()
}

/// Numbers in few words: "1-3 7".
fn ranges(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let words: Vec<String> = ranges
        .iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_text_are_places() {
        let said = "Relocation section '.rela.text' at offset 0x1 contains 3 entries:\n\
                    Offset Info Type Symbol's Value Symbol's Name + Addend\n\
                    0000000000000011  000a R_X86_64_PLT32 0 __sanitizer_cov_trace_pc - 4\n\
                    0000000000000021  000a R_X86_64_PLT32 0 kfree - 4\n\n\
                    Relocation section '.rela.init.text' at offset 0x1 contains 1 entry:\n\
                    0000000000000031  000a R_X86_64_PLT32 0 __sanitizer_cov_trace_pc - 4\n";
        assert_eq!(places(said), [0x15]);
    }

    #[test]
    fn lines_of_others_do_not_count() {
        let frames = "/rust/core/option.rs:3:5\n/a/fs/vfs/inode.rs:12:8\n/a/fs/dir.rs:7:1\n";
        let wanted = [("vfs/inode.rs".to_owned(), 12), ("dir.rs".to_owned(), 7)];
        assert_eq!(lines(frames, "/a/fs/"), wanted);
        assert_eq!(lines("??:0:0\n/a/fs/dir.rs:0:0", "/a/fs/"), []);
    }

    #[test]
    fn a_report_counts_lines() {
        let line = |number| ("dir.rs".to_owned(), number);
        let of = [
            (4, vec![line(1)]),
            (8, vec![line(2), line(9)]),
            (12, vec![line(3)]),
            (16, vec![line(1)]),
        ];
        let lines = Lines { of: of.into() };
        let report = lines.report(&[
            ("one", Places::from([4, 16])),
            ("two", Places::from([8, 99])),
        ]);
        assert_eq!((report.lines, report.run), (4, vec![1, 2]));
        assert!(
            report
                .text
                .contains("     1  25 %      2  50 %      3  75 %      4  dir.rs\n"),
            "{}",
            report.text
        );
        assert!(report.text.ends_with("dir.rs: 3\n"), "{}", report.text);
    }

    #[test]
    fn neighbours_are_one_range() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3 7 9-10");
    }
}
