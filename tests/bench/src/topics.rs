// SPDX-License-Identifier: GPL-2.0

//! Topics with tables of their own, beside the main table: `cargo xtask bench disks`, `containers`
//! and `files`. xtask passes a [`Plan`]; the program prints one [`Cell`] of JSON for each result.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::Image;

/// What a table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Small files that are read from a disk for the first time, by the disk's file system.
    Disks,
    /// Containers, by the way in which their files come to them.
    Containers,
    /// The memory of 100,000 small files that were read.
    Files,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Disks, Self::Containers, Self::Files];

    /// The topic of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disks => "disks",
            Self::Containers => "containers",
            Self::Files => "files",
        }
    }

    /// What it measures.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Disks => "files that come from a disk, on several file systems",
            Self::Containers => "containers, also layer by layer, by FUSE and other ways",
            Self::Files => "the memory of 100,000 small files that were read",
        }
    }
}

/// How long the disk of these measurements takes for a request, in nanoseconds.
pub const LATENCY: u64 = 100_000;

/// The measurements that the program in the guest makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// What about.
    pub topic: Topic,
    /// How often each is measured.
    pub repeat: u32,
    /// For [`Topic::Disks`]: an image of small files, and its objects.
    pub content: Option<Image>,
    /// For [`Topic::Containers`]: the program that serves an image by FUSE.
    pub fuse: Option<PathBuf>,
}

/// A result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// What was measured, with its unit.
    pub row: String,
    /// On what it was measured: the title of a column.
    pub column: String,
    /// The least of all runs: a disturbance only ever adds to one.
    pub value: f64,
}
