// SPDX-License-Identifier: GPL-2.0

//! The misses of a window by function, by line, by cause and by callers.

use std::collections::BTreeMap;

use composefs_bench::Stack;
use composefs_bench::coherence::Misses;

use super::measured::Measured;
use super::symbols::Symbols;

/// Reads and writes that missed.
#[derive(Clone, Copy, Default)]
pub struct Count {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

impl Count {
    /// Both.
    pub fn both(self) -> u64 {
        self.reads + self.writes
    }
}

/// Counts by the names of what they are of.
#[derive(Default)]
pub struct Counts(BTreeMap<String, Count>);

impl Counts {
    fn add(&mut self, name: String, misses: &Misses) {
        let count = self.0.entry(name).or_default();
        count.reads += misses.reads;
        count.writes += misses.writes;
    }

    /// Those of a name.
    pub fn of(&self, name: &str) -> Count {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// All of them.
    pub fn sum(&self) -> Count {
        self.0.values().fold(Count::default(), |sum, count| Count {
            reads: sum.reads + count.reads,
            writes: sum.writes + count.writes,
        })
    }

    /// Names and counts, those with most misses first.
    pub fn sorted(&self) -> Vec<(&str, Count)> {
        let counts = self.0.iter().map(|(name, count)| (name.as_str(), *count));
        let mut counts: Vec<_> = counts.collect();
        counts.sort_by_key(|(name, count)| (u64::MAX - count.both(), *name));
        counts
    }
}

/// A window, and its misses in several orders.
pub struct Counted {
    /// The window.
    pub measured: Measured,
    /// By the function in which they are.
    pub functions: Counts,
    /// The same, and the function by which another processor caused them.
    pub causes: Counts,
    /// By function and its callers.
    pub callers: Counts,
    /// On composefs: those in the module, by line, and what caused them.
    pub ours: Counts,
    /// On composefs: those in functions of the kernel that the module calls.
    pub below: Counts,
}

impl Counted {
    /// Counts them.
    pub fn new(measured: Measured, symbols: &Symbols) -> Self {
        let mut counted = Self {
            measured,
            functions: Counts::default(),
            causes: Counts::default(),
            callers: Counts::default(),
            ours: Counts::default(),
            below: Counts::default(),
        };
        let on_composefs = counted.measured.stack == Some(Stack::Composefs);
        for misses in &counted.measured.window.misses {
            let function = symbols.function(misses.at);
            let cause = symbols.function(misses.cause);
            counted.functions.add(function.clone(), misses);
            let name = format!("{function}  <- {cause}");
            counted.causes.add(name, misses);
            let chain = misses.callers.iter().take(6);
            let chain: Vec<String> = chain.map(|call| symbols.function(*call)).collect();
            let name = format!("{function} < {}", chain.join(" < "));
            counted.callers.add(name, misses);
            if !on_composefs {
                continue;
            }
            let mut callers = misses.callers.iter();
            if symbols.is_ours(misses.at) {
                let (at, cause) = (symbols.place(misses.at), symbols.place(misses.cause));
                counted.ours.add(format!("{at}  <- {cause}"), misses);
            } else if let Some(call) = callers.find(|call| symbols.is_ours(**call)) {
                let name = format!("{function}, called by {}", symbols.place(*call));
                counted.below.add(name, misses);
            }
        }
        counted
    }
}
