// SPDX-License-Identifier: GPL-2.0

//! Collecting and printing the values.

use std::collections::BTreeMap;

use anyhow::Result;
use composefs_bench::Figure;
use composefs_bench::Line;
use composefs_bench::Plan;
use composefs_bench::Random;
use composefs_bench::Stack;

use crate::clock;
use crate::profile::Profiler;

/// The values of the wanted rows on one stack.
pub struct Recorder {
    stack: Stack,
    wanted: Vec<&'static str>,
    runs: BTreeMap<&'static str, Vec<u64>>,
    entries: Option<u64>,
    profiler: Option<Profiler>,
}

impl Recorder {
    /// Begins without values.
    pub fn new(stack: Stack, wanted: Vec<&'static str>, plan: &Plan) -> Result<Self> {
        let profiler = plan.profile.map(|_| Profiler::new());
        Ok(Self {
            stack,
            wanted,
            runs: BTreeMap::new(),
            entries: None,
            profiler: profiler.transpose()?,
        })
    }

    /// Runs `work` and notes the instructions that it takes.
    pub fn time<T>(&mut self, row: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // The first run takes no samples, as these cost instructions, too.
        if self.runs.contains_key(row) {
            if let Some(profiler) = &mut self.profiler {
                return profiler.watch(row, work);
            }
        }
        let before = clock::now();
        let result = work();
        let after = clock::now();
        self.note(row, after - before);
        if self.wanted.contains(&row) {
            if let Some(profiler) = &mut self.profiler {
                profiler.count(row, after - before);
            }
        }
        result
    }

    /// Notes a value.
    pub fn note(&mut self, row: &'static str, value: u64) {
        if self.wanted.contains(&row) {
            self.runs.entry(row).or_default().push(value);
        }
    }

    /// Notes the number of entries in the image.
    pub fn entries(&mut self, entries: u64) {
        self.entries = Some(entries);
    }

    /// Prints all values to standard output.
    pub fn report(self) -> Result<()> {
        if let Some(profiler) = self.profiler {
            for profile in profiler.profiles(&self.stack.to_string())? {
                print(&Line::Profile(profile))?;
            }
        }
        for (row, runs) in self.runs {
            print(&Line::Figure(Figure {
                row: row.to_owned(),
                stack: self.stack,
                runs,
                entries: self.entries,
            }))?;
        }
        Ok(())
    }
}

fn print(line: &Line) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}

/// Shuffles a list, in the same way each time.
pub fn shuffled<T>(mut list: Vec<T>) -> Vec<T> {
    let mut random = Random::new(2);
    for last in (1..list.len()).rev() {
        list.swap(last, random.below(last as u64 + 1) as usize);
    }
    list
}
