// SPDX-License-Identifier: GPL-2.0

//! Rows of which it is known what has to be counted.

use anyhow::Result;
use anyhow::ensure;

use super::measured::Measured;

/// Rows that are measured whatever is asked for.
pub const ALWAYS: [&str; 3] = ["control", "same-line", "own-line"];

/// Checks them.
///
/// # Errors
///
/// When something else was counted.
pub fn check(measured: &[Measured]) -> Result<()> {
    for measured in measured {
        let operations = measured.window.operations;
        // The first one of all finds a line that nobody has touched.
        let wanted = match measured.row.name {
            "same-line" => operations - 1,
            "own-line" => 0,
            _ => continue,
        };
        let page = measured.address..measured.address + 4096;
        let lines = measured.window.lines.iter();
        let counted: u64 = lines
            .filter(|line| page.contains(&line.address))
            .map(|line| line.reads + line.writes)
            .sum();
        ensure!(
            counted == wanted,
            "{}: {operations} operations, and {counted} misses of their lines instead of {wanted}: \
             the plugin counts wrong",
            measured.row.name
        );
    }
    Ok(())
}
