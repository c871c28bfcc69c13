// SPDX-License-Identifier: GPL-2.0

//! The values of a column.

use anyhow::Result;
use composefs_bench::topics::Cell;

/// The least value of each row: a disturbance only ever adds to a run.
#[derive(Default)]
pub struct Least(Vec<(String, f64)>);

impl Least {
    /// Notes a value. Rows are in the order in which they are noted first.
    pub fn note(&mut self, row: impl Into<String>, value: f64) {
        let row = row.into();
        match self.0.iter_mut().find(|(known, _)| *known == row) {
            Some((_, least)) => *least = least.min(value),
            None => self.0.push((row, value)),
        }
    }

    /// Prints them as the column of this title.
    pub fn report(self, column: &str) -> Result<()> {
        for (row, value) in self.0 {
            let cell = Cell {
                row,
                column: column.to_owned(),
                value,
            };
            println!("{}", serde_json::to_string(&cell)?);
        }
        Ok(())
    }
}
