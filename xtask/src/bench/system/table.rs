// SPDX-License-Identifier: GPL-2.0

//! Printing the results as a table.

use super::figures::ROWS;
use super::figures::Results;
use super::figures::Row;
use super::figures::Way;
use super::figures::amount;

/// The table, with ratios to the other ways and what became of the goals.
pub fn text(results: &Results) -> String {
    let mut text = format!("{:<48} {:>8}", "", "");
    for way in Way::ALL {
        text += &format!(" {way:>9}");
    }
    text += &format!(
        " {:>7} {:>7} {:>7} {:>7} {:>7}\n",
        "/e.+o.", "/ext4", "r./ext4", "i./ext4", "spread"
    );
    for row in &ROWS {
        if let Some(line) = line(row, results) {
            text += &line;
            text.push('\n');
        }
    }
    text
}

fn line(row: &Row, results: &Results) -> Option<String> {
    Way::ALL.iter().find_map(|&way| results.value(way, row))?;
    let mut text = format!("{:<48} {:>8}", row.title, row.unit);
    for way in Way::ALL {
        let shown = results.value(way, row).map(|value| amount(row, value));
        text += &format!(" {:>9}", shown.unwrap_or_default());
    }
    for (of, to) in [
        (Way::Composefs, Way::Overlay),
        (Way::Composefs, Way::Ext4),
        (Way::Ahead, Way::Ext4),
        (Way::Inline, Way::Ext4),
    ] {
        let ratio = results.ratio(of, to, row);
        let shown = ratio.map(|ratio| format!("{ratio:.3}"));
        text += &format!(" {:>7}", shown.unwrap_or_default());
    }
    let spreads = Way::ALL.iter().filter_map(|&way| results.spread(way, row));
    text += &format!(" {:>6.2}%", spreads.fold(0.0, f64::max) * 100.0);
    if let Some(goal) = row.goal {
        let best = [Way::Composefs, Way::Ahead, Way::Inline]
            .iter()
            .filter_map(|&way| results.ratio(way, Way::Ext4, row))
            .fold(f64::INFINITY, f64::min);
        let met = if best <= goal { "met" } else { "MISSED" };
        text += &format!("  {goal:.2} of ext4: {met}");
    }
    Some(text)
}
