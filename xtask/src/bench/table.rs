// SPDX-License-Identifier: GPL-2.0

//! Printing the results as a table.

use composefs_bench::ROWS;
use composefs_bench::Row;
use composefs_bench::Stack;
use composefs_bench::Unit;

use super::baseline::Baseline;
use super::results::Results;

/// Prints the table of everything that was measured.
pub fn print(results: &Results, baseline: &Baseline) {
    let entries = results.figures.iter().find_map(|figure| figure.entries);
    println!(
        "The tree is {}{}.",
        results.tree,
        match entries {
            Some(entries) => format!(", of {entries} entries"),
            None => String::new(),
        }
    );
    println!(
        "A ratio is the cost of composefs to that of the other one, and its goal: less is better.\n"
    );
    println!(
        "{:<44} {:>8} {:>9} {:>9} {:>9} {:>9}  {:<12} {:<12} {:<12} {:<6} {:>6} {:>7}",
        "",
        "",
        "composefs",
        "erofs",
        "er.+ovl.",
        "ext4",
        "/erofs",
        "/e.+o.",
        "/ext4",
        "",
        "spread",
        "change"
    );
    for row in ROWS {
        if let Some(line) = line(row, results, baseline) {
            println!("{line}");
        }
    }
}

/// What composefs is compared with.
pub const OTHERS: [Stack; 3] = [Stack::Erofs, Stack::Overlay, Stack::Ext4];

fn line(row: &Row, results: &Results, baseline: &Baseline) -> Option<String> {
    let ours = results.figure(row.name, Stack::Composefs)?;
    let mut text = format!("{:<44} {:>8}", row.title, row.unit);
    for stack in Stack::ALL {
        let shown = results
            .figure(row.name, stack)
            .map(|figure| amount(row.unit, figure.value()));
        text += &format!(" {:>9}", shown.unwrap_or_default());
    }
    text += " ";
    let mut met = "";
    for stack in OTHERS {
        let ratio = results.ratio(row.name, stack);
        let shown = match (ratio, row.goal(stack)) {
            (Some(ratio), Some(goal)) => {
                let missed = ratio > goal;
                met = if missed || met == "MISSED" {
                    "MISSED"
                } else {
                    "met"
                };
                let sign = if missed { '>' } else { '≤' };
                format!("{ratio:.3} {sign} {goal:.2}")
            }
            (Some(ratio), None) => format!("{ratio:.3}"),
            (None, _) => String::new(),
        };
        text += &format!(" {shown:<12}");
    }
    text += &format!(" {met:<6}");
    let spread = Stack::ALL
        .iter()
        .filter_map(|&stack| results.figure(row.name, stack))
        .map(|figure| figure.spread())
        .fold(0.0, f64::max);
    text += &format!(" {:>5.2}%", spread * 100.0);
    if let Some(change) = baseline.change(&results.tree, ours) {
        let mark = if Baseline::is_dearer(change) {
            " DEARER"
        } else {
            ""
        };
        text += &format!(" {:>+6.2}%{mark}", change * 100.0);
    }
    Some(text)
}

/// A value as the table shows it.
pub fn amount(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Instructions | Unit::Time => format!("{:.2}", value as f64 / 1e6),
        Unit::KiB | Unit::Requests => value.to_string(),
    }
}
