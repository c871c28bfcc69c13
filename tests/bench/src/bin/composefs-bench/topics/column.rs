// SPDX-License-Identifier: GPL-2.0

//! Measuring a column: its values, or where its rows spend their instructions.

use std::fmt;

use anyhow::Result;
use composefs_bench::topics::Cell;
use composefs_bench::topics::Line;
use composefs_bench::topics::Plan;

use crate::clock;
use crate::profile::Profiler;

/// A column that is measured.
pub struct Column {
    name: String,
    title: &'static str,
    repeat: u32,
    /// The least value of each row: a disturbance only ever adds to a run.
    values: Vec<(String, f64)>,
    profiler: Option<Profiler>,
    sampled: bool,
}

impl Column {
    /// Begins without values.
    pub fn new(plan: &Plan, name: &impl fmt::Display, title: &'static str) -> Result<Self> {
        let profiler = plan.profile.as_ref().map(|_| Profiler::new());
        Ok(Self {
            name: name.to_string(),
            title,
            repeat: plan.repeat,
            values: Vec::new(),
            profiler: profiler.transpose()?,
            sampled: false,
        })
    }

    /// Measures as often as the plan says.
    pub fn repeat(&mut self, mut measure: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        for number in 0..self.repeat {
            // The first run takes no samples, as these cost instructions, too.
            self.sampled = number > 0;
            measure(self)?;
        }
        Ok(())
    }

    /// Does `work`, and tells how long it takes. `of` names the row of the profile to which the
    /// work belongs.
    pub fn time<T>(&mut self, of: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
        let sampled = self.sampled;
        let before = clock::now();
        let result = match &mut self.profiler {
            Some(profiler) if sampled => profiler.watch(of, work)?,
            _ => work()?,
        };
        let time = clock::now() - before;
        if !sampled {
            if let Some(profiler) = &mut self.profiler {
                profiler.count(of, time);
            }
        }
        Ok((result, time))
    }

    /// Notes a value. Rows are in the order in which they are noted first.
    pub fn note(&mut self, row: impl Into<String>, value: f64) {
        let row = row.into();
        match self.values.iter_mut().find(|(known, _)| *known == row) {
            Some((_, least)) => *least = least.min(value),
            None => self.values.push((row, value)),
        }
    }

    /// Prints the values, or the profiles.
    pub fn report(self) -> Result<()> {
        // The runs that are sampled cost more: their values are worth nothing.
        if let Some(profiler) = self.profiler {
            let mut profiles = profiler.profiles(&self.name)?.into_iter();
            return profiles.try_for_each(|profile| print(&Line::Profile(profile)));
        }
        for (row, value) in self.values {
            print(&Line::Cell(Cell {
                row,
                column: self.title.to_owned(),
                value,
            }))?;
        }
        Ok(())
    }
}

fn print(line: &Line) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}
