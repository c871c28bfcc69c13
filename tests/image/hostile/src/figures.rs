// SPDX-License-Identifier: GPL-2.0

//! How much was tried.

use std::fmt::Write as _;

use composefs_image_mutate::Kind;

use crate::operation::Operation;
use crate::operation::counts;
use crate::operation::total;
use crate::walk::Seen;

/// What became of images.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    tried: u64,
    mounted: u64,
    damaged: u64,
}

/// What became of all images, and of those that were changed in one way.
#[derive(Debug)]
pub struct Figures {
    all: Tally,
    by_kind: Vec<Tally>,
    entries: u64,
}

impl Figures {
    /// Nothing was tried yet.
    pub fn new() -> Self {
        Self {
            all: Tally::default(),
            by_kind: vec![Tally::default(); Kind::ALL.len()],
            entries: 0,
        }
    }

    /// Counts an image: what was seen of it, or None if it was refused.
    pub fn add(&mut self, kinds: &[Kind], seen: Option<&Seen>) {
        let mut changed: Vec<usize> = kinds.iter().map(|&kind| kind as usize).collect();
        changed.sort_unstable();
        changed.dedup();
        let tallies = self.by_kind.iter_mut().enumerate();
        let tallies = tallies.filter(|(number, _)| changed.contains(number));
        for tally in tallies.map(|(_, tally)| tally).chain([&mut self.all]) {
            tally.tried += 1;
            tally.mounted += u64::from(seen.is_some());
            tally.damaged += u64::from(seen.is_some_and(|seen| seen.damage > 0));
        }
        self.entries += seen.map_or(0, |seen| u64::from(seen.entries));
    }

    /// Adds those of another thread.
    pub fn merge(&mut self, other: &Self) {
        let ours = self.by_kind.iter_mut().chain([&mut self.all]);
        for (ours, theirs) in ours.zip(other.by_kind.iter().chain([&other.all])) {
            ours.tried += theirs.tried;
            ours.mounted += theirs.mounted;
            ours.damaged += theirs.damaged;
        }
        self.entries += other.entries;
    }

    /// Images so far.
    pub fn tried(&self) -> u64 {
        self.all.tried
    }

    /// Images that were mounted.
    pub fn mounted(&self) -> u64 {
        self.all.mounted
    }

    /// Images that were mounted and had something wrong that was met.
    pub fn damaged(&self) -> u64 {
        self.all.damaged
    }

    /// Prints them as lines of KTAP. Those with "figure" are for xtask's table.
    pub fn print(&self) {
        let Tally {
            tried,
            mounted,
            damaged,
        } = self.all;
        println!("# figure: hostile images = {tried}");
        println!("# figure: hostile images, mounted = {mounted}");
        println!("# figure: hostile images, damage met in a mount = {damaged}");
        println!("# figure: operations on hostile images = {}", total());
        println!("# {} entries were looked up", self.entries);
        for operation in Operation::ALL {
            let (done, failed) = counts(operation);
            println!("# {operation:?}: {done}, {failed} of them failed");
        }
        for (kind, tally) in Kind::ALL.iter().zip(&self.by_kind) {
            println!(
                "# changed {}: {} images, {} mounted, {} of them damaged",
                kind.name(),
                tally.tried,
                tally.mounted,
                tally.damaged
            );
        }
    }
}

/// The names of kinds, in one line.
pub fn names(kinds: &[Kind]) -> String {
    let mut line = String::new();
    for kind in kinds {
        let comma = if line.is_empty() { "" } else { ", " };
        let _ = write!(line, "{comma}{}", kind.name());
    }
    line
}
