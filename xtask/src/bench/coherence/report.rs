// SPDX-License-Identifier: GPL-2.0

//! All that is known about a window, for a file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Stack;

use super::counts::Count;
use super::counts::Counted;
use super::counts::Counts;
use super::measured::Measured;
use super::symbols::Symbols;

/// How many lines of data are shown.
const LINES: usize = 60;

/// Writes it to a file in a directory.
///
/// # Errors
///
/// When it cannot be written.
pub fn save(counted: &Counted, symbols: &Symbols, directory: &Path) -> Result<()> {
    let measured = &counted.measured;
    let stack = measured
        .stack
        .map_or_else(String::new, |stack| format!("-{stack}"));
    let name = format!("{}{stack}-{}.txt", measured.row.name, measured.processors);
    let path = directory.join(name);
    fs::write(&path, text(counted, symbols)).with_context(|| path.display().to_string())
}

fn text(counted: &Counted, symbols: &Symbols) -> String {
    let measured = &counted.measured;
    let window = &measured.window;
    let mut text = format!(
        "{} ({}), {} processors\n{} operations, {:.3} misses each, of {} lines\n",
        measured.row.name,
        measured.row.title,
        measured.processors,
        window.operations,
        measured.each(window.total()),
        window.distinct
    );
    let mut tables = vec![("By function", &counted.functions)];
    if measured.stack == Some(Stack::Composefs) {
        tables.push(("In composefs, by line, and what caused it", &counted.ours));
        tables.push(("In what composefs calls", &counted.below));
    }
    tables.push((
        "By function, and the one on another processor that caused it",
        &counted.causes,
    ));
    tables.push(("By function and its callers", &counted.callers));
    for (title, counts) in tables {
        let _ = write!(text, "\n{title}\n   each   reads  writes\n");
        text += &lines(counts, measured, usize::MAX);
    }
    text += "\nLines of data\n   each   reads  writes\n";
    for line in window.lines.iter().take(LINES) {
        let count = Count {
            reads: line.reads,
            writes: line.writes,
        };
        let variable = symbols.variable(line.address).unwrap_or_default();
        text += &one(measured, count, &format!("{:#x} {variable}", line.address));
    }
    text
}

/// A line for each that is not rare, and for at most so many.
pub fn lines(counts: &Counts, measured: &Measured, most: usize) -> String {
    let mut text = String::new();
    let mut rest = counts.sum();
    for (name, count) in counts.sorted().into_iter().take(most) {
        if measured.each(count.both()) >= 0.01 {
            rest.reads -= count.reads;
            rest.writes -= count.writes;
            text += &one(measured, count, name);
        }
    }
    text + &one(measured, rest, "(all others)")
}

fn one(measured: &Measured, count: Count, name: &str) -> String {
    format!(
        "{:>7.3} {:>7.3} {:>7.3}  {name}\n",
        measured.each(count.both()),
        measured.each(count.reads),
        measured.each(count.writes)
    )
}
