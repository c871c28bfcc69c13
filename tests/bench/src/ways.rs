// SPDX-License-Identifier: GPL-2.0

//! Tables of their own: `cargo xtask bench disks`, where content comes from a disk, and
//! `cargo xtask bench containers`, with other ways to run containers than the stacks of the main
//! table, and `cargo xtask bench files`, of the memory of many files. xtask passes a [`Plan`]; the program prints one [`Cell`] of JSON for each result.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::Image;

/// What a table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Small files, read from a disk for the first time, by the file system of that disk.
    Disks,
    /// Containers, by the way in which their files come to them.
    Containers,
    /// The memory of 100,000 small files that were read.
    Files,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Disks, Self::Containers, Self::Files];

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
            Self::Containers => "containers, also by podman's own way, by FUSE and others",
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
    /// An image of small files and of programs, and its objects.
    pub content: Image,
    /// The program that serves an image by FUSE.
    pub fuse: PathBuf,
}

/// A result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// What was measured, with its unit.
    pub row: String,
    /// With what: the title of a column.
    pub way: String,
    /// The least of all runs: a disturbance only ever adds to one.
    pub value: f64,
}
