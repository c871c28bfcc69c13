// SPDX-License-Identifier: GPL-2.0

//! The table in the documentation.

use std::fs;

use anyhow::Context as _;
use anyhow::Result;

use super::figures::ROWS;
use super::figures::Results;
use super::figures::Row;
use super::figures::Way;
use super::figures::amount;
use crate::bench::plot;
use crate::bench::plot::Bar;
use crate::context::Context;

/// The page, and the comments around its table.
const PAGE: &str = "Documentation/filesystems/composefs-boot.rst";
const BEGIN: &str = ".. The table is written by cargo xtask bench boot --save-baseline.\n";
const END: &str = "\n.. The end of the table.\n";

/// Widths of the columns.
const TITLE: usize = 46;
const NUMBER: usize = 9;

/// The plot beside it.
const PLOT: &str = "Documentation/filesystems/composefs-boot.svg";

/// Replaces the table and the plot.
///
/// # Errors
///
/// When the page has no place for it, or a file cannot be written.
pub fn update(context: &Context, results: &Results) -> Result<()> {
    let bars: Vec<Bar> = ROWS
        .iter()
        // Times differ from machine to machine.
        .filter(|row| row.unit != "s")
        .filter_map(|row| {
            Some(Bar {
                title: row.title,
                ours: results.ratio(Way::Composefs, Way::Overlay, row)?,
                other: results.ratio(Way::Ext4, Way::Overlay, row),
            })
        })
        .collect();
    let legend = "ext4, without an image and fs-verity";
    plot::draw_bars(&bars, legend, &context.repo.join(PLOT))?;
    let path = context.repo.join(PAGE);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let replaced = text
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)))
        .map(|(before, after)| format!("{before}{BEGIN}\n{}{END}{after}", table(results)))
        .with_context(|| format!("{} has no place for the table", path.display()))?;
    fs::write(&path, replaced).with_context(|| path.display().to_string())
}

fn table(results: &Results) -> String {
    let rule = line(["="; 8].map(|mark| mark.repeat(TITLE)));
    let ways = Way::ALL.map(|way| way.to_string());
    let [composefs, ahead, inline, overlay, ext4] = ways;
    let head = [
        "\\".to_owned(),
        "unit".to_owned(),
        composefs,
        ahead,
        inline,
        overlay,
        ext4,
        "spread".to_owned(),
    ];
    let body: String = ROWS.iter().filter_map(|row| row_of(row, results)).collect();
    format!("{rule}{}{rule}{body}{rule}", line(head))
}

fn row_of(row: &Row, results: &Results) -> Option<String> {
    results.value(Way::Composefs, row)?;
    let shown = |way| {
        let value = results.value(way, row);
        value.map(|value| amount(row, value)).unwrap_or_default()
    };
    let spreads = Way::ALL.iter().filter_map(|&way| results.spread(way, row));
    Some(line([
        row.title.to_owned(),
        row.unit.to_owned(),
        shown(Way::Composefs),
        shown(Way::Ahead),
        shown(Way::Inline),
        shown(Way::Overlay),
        shown(Way::Ext4),
        format!("{:.1} %", spreads.fold(0.0, f64::max) * 100.0),
    ]))
}

/// A line of the table. A first column that is longer than its place is cut: only rules are.
fn line(cells: [String; 8]) -> String {
    let mut text = String::new();
    for (number, cell) in cells.iter().enumerate() {
        text += &match number {
            0 => format!("{cell:<TITLE$.TITLE$}"),
            1 => format!(" {cell:<NUMBER$.NUMBER$}"),
            _ => format!(" {cell:>NUMBER$.NUMBER$}"),
        };
    }
    text.trim_end().to_owned() + "\n"
}
