// SPDX-License-Identifier: GPL-2.0

//! The rows of the table.

use std::fmt;

use crate::Stack;

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Instructions of the guest, in kernel and program.
    Instructions,
    /// Memory.
    KiB,
    /// Requests to a disk.
    Requests,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Instructions => "M instr",
            Self::KiB => "KiB",
            Self::Requests => "requests",
        })
    }
}

/// What composefs is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most this much for a tree of [`Goal::ENTRIES`], and in proportion for
    /// others.
    Tree(u64),
    /// At most this much.
    Most(u64),
}

impl Goal {
    /// Entries of the tree that goals were set for.
    pub const ENTRIES: u64 = 64_246;

    /// The goal for a tree of so many entries.
    pub fn of(self, entries: Option<u64>) -> u64 {
        match (self, entries) {
            (Self::Tree(most), Some(entries)) => most * entries / Self::ENTRIES,
            (Self::Tree(most) | Self::Most(most), _) => most,
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As given on the command line.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What is counted.
    pub unit: Unit,
    /// Where it can be measured.
    pub stacks: &'static [Stack],
    /// What is to be reached.
    pub goal: Option<Goal>,
    /// Whether `--quick` measures it, too.
    pub quick: bool,
}

impl Row {
    /// The row of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == name)
    }
}

const METADATA: &[Stack] = &[Stack::Composefs, Stack::Erofs, Stack::Overlay];
const CONTENT: &[Stack] = &[Stack::Composefs, Stack::Overlay, Stack::Ext4];
const MILLION: u64 = 1_000_000;

/// A row that walks or searches the tree.
const fn tree(name: &'static str, title: &'static str, unit: Unit, goal: u64) -> Row {
    Row {
        name,
        title,
        unit,
        stacks: METADATA,
        goal: Some(Goal::Tree(goal)),
        quick: true,
    }
}

/// A row about the 2000 small files.
const fn blobs(name: &'static str, title: &'static str, goal: u64) -> Row {
    Row {
        name,
        title,
        unit: Unit::Instructions,
        stacks: CONTENT,
        goal: Some(Goal::Most(goal)),
        quick: true,
    }
}

/// All rows, in the order of the table.
pub const ROWS: &[Row] = &[
    tree(
        "cold-walk",
        "cold walk (readdir, lstat of all)",
        Unit::Instructions,
        400 * MILLION,
    ),
    tree("warm-walk", "warm walk", Unit::Instructions, 180 * MILLION),
    tree(
        "readdir",
        "readdir only, dentries dropped",
        Unit::Instructions,
        70 * MILLION,
    ),
    Row {
        goal: Some(Goal::Most(20 * MILLION)),
        ..tree(
            "cold-stat",
            "stat of 2000 random files, cold",
            Unit::Instructions,
            0,
        )
    },
    blobs(
        "open-read",
        "open, read, close of 2000 small files, warm",
        27_500_000,
    ),
    blobs("open", "open, close of 2000 small files, warm", 6 * MILLION),
    tree("slab", "slab after the cold walk", Unit::KiB, 48_000),
    tree(
        "page-cache",
        "page cache after the cold walk",
        Unit::KiB,
        11_000,
    ),
    tree(
        "free-memory",
        "memory taken by the cold walk",
        Unit::KiB,
        62_000,
    ),
    tree(
        "requests",
        "read requests to the disk, cold walk",
        Unit::Requests,
        40,
    ),
];
