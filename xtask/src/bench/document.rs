// SPDX-License-Identifier: GPL-2.0

//! The table of results in the documentation, in reStructuredText.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::ROWS;
use composefs_bench::Row;
use composefs_bench::Stack;
use composefs_bench::Unit;

use super::results::Results;
use super::table::OTHERS;
use super::table::amount;
use crate::context::Context;

/// The page with all tables.
const PAGE: &str = "Documentation/filesystems/composefs-performance.rst";

/// The comment after each table that is written.
const END: &str = "\n.. The end of the table.\n";

/// Widths of the columns.
const TITLE: usize = 44;
const NUMBER: usize = 9;

/// Number of columns.
const CELLS: usize = 9;

/// Replaces the table of all rows in the documentation.
///
/// # Errors
///
/// When the page has no place for it, or cannot be written.
pub fn update(context: &Context, results: &Results) -> Result<()> {
    replace(context, "", &table(results))
}

/// Replaces the table that `cargo xtask bench NAME` measures.
///
/// # Errors
///
/// When the page has no place for it, or cannot be written.
pub fn replace(context: &Context, name: &str, table: &str) -> Result<()> {
    let path = context.repo.join(PAGE);
    let (before, after) = around(&path, name)?;
    fs::write(&path, format!("{before}\n{table}{END}{after}"))
        .with_context(|| path.display().to_string())
}

/// Checks that the page has a place for the table that `cargo xtask bench NAME` measures.
///
/// # Errors
///
/// When it has none.
pub fn check(context: &Context, name: &str) -> Result<()> {
    around(&context.repo.join(PAGE), name).map(|_| ())
}

/// The text before a table and that after it, which is without the comment there.
fn around(path: &Path, name: &str) -> Result<(String, String)> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let words = ["cargo xtask bench", name, "--save-baseline"];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let begin = format!(".. The table is written by {}.\n", words.join(" "));
    let parts = text
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.with_context(|| {
        let (begin, end) = (begin.trim(), END.trim());
        format!(
            "{} lacks the line \"{begin}\" or, behind it, \"{end}\"",
            path.display()
        )
    })?;
    Ok((format!("{before}{begin}"), after.to_owned()))
}

fn table(results: &Results) -> String {
    let rule = line(["="; CELLS].map(|mark| mark.repeat(TITLE)));
    let head = [
        "",
        "unit",
        "composefs",
        "erofs",
        "er.+ovl.",
        "ext4",
        "/erofs",
        "/er.+ovl.",
        "/ext4",
    ];
    // Times differ from machine to machine, and from day to day.
    let lasting = ROWS.iter().filter(|row| row.unit != Unit::Time);
    let body: String = lasting.filter_map(|row| row_of(row, results)).collect();
    format!("{rule}{}{rule}{body}{rule}", line(head.map(str::to_owned)))
}

fn row_of(row: &Row, results: &Results) -> Option<String> {
    let figure = |stack| {
        let figure = results.figure(row.name, stack)?;
        Some(amount(row.unit, figure.value()))
    };
    // A star marks a ratio that misses its goal.
    let [erofs, overlay, ext4] = OTHERS.map(|stack| {
        let ratio = results.ratio(row.name, stack)?;
        let missed = row.goal(stack).is_some_and(|goal| ratio > goal);
        Some(format!("{ratio:.3}{}", if missed { "*" } else { "" }))
    });
    Some(line([
        row.title.to_owned(),
        row.unit.to_string(),
        figure(Stack::Composefs)?,
        figure(Stack::Erofs).unwrap_or_default(),
        figure(Stack::Overlay).unwrap_or_default(),
        figure(Stack::Ext4).unwrap_or_default(),
        erofs.unwrap_or_default(),
        overlay.unwrap_or_default(),
        ext4.unwrap_or_default(),
    ]))
}

fn line(cells: [String; CELLS]) -> String {
    let mut text = String::new();
    for (number, cell) in cells.iter().enumerate() {
        text += &match number {
            // An empty first cell would continue the row above.
            0 if cell.is_empty() => format!("{:<TITLE$}", "\\"),
            0 => format!("{cell:<TITLE$.TITLE$}"),
            1 => format!(" {cell:<NUMBER$.NUMBER$}"),
            _ => format!(" {cell:>NUMBER$.NUMBER$}"),
        };
    }
    text.trim_end().to_owned() + "\n"
}
