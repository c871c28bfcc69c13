// SPDX-License-Identifier: GPL-2.0

//! Figures of a run.

use std::fmt::Write as _;

use composefs_image_mutate::Kind;

use crate::operation::Operation;
use crate::operation::counts;
use crate::operation::total;
use crate::walk::Seen;

/// Numbers of images.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    tried: u64,
    mounted: u64,
    damaged: u64,
}

/// Numbers of all images, and of those with each kind of change.
#[derive(Debug)]
pub struct Figures {
    all: Tally,
    by_kind: Vec<Tally>,
    entries: u64,
}

impl Figures {
    /// Figures before the first image.
    pub fn new() -> Self {
        Self {
            all: Tally::default(),
            by_kind: vec![Tally::default(); Kind::ALL.len()],
            entries: 0,
        }
    }

    /// Counts an image. `seen` is `None` if the mount was refused.
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

    /// Adds the figures of another thread.
    pub fn merge(&mut self, other: &Self) {
        let ours = self.by_kind.iter_mut().chain([&mut self.all]);
        for (ours, theirs) in ours.zip(other.by_kind.iter().chain([&other.all])) {
            ours.tried += theirs.tried;
            ours.mounted += theirs.mounted;
            ours.damaged += theirs.damaged;
        }
        self.entries += other.entries;
    }

    /// Number of images.
    pub fn tried(&self) -> u64 {
        self.all.tried
    }

    /// Number of mounted images.
    pub fn mounted(&self) -> u64 {
        self.all.mounted
    }

    /// Number of mounted images in which damage was found.
    pub fn damaged(&self) -> u64 {
        self.all.damaged
    }

    /// Prints the figures as comments of KTAP. xtask shows those with "figure" in its table.
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

/// The names of kinds of changes, in one line.
pub fn names(kinds: &[Kind]) -> String {
    let mut line = String::new();
    for kind in kinds {
        let comma = if line.is_empty() { "" } else { ", " };
        let _ = write!(line, "{comma}{}", kind.name());
    }
    line
}
