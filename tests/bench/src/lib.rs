// SPDX-License-Identifier: GPL-2.0

//! What `cargo xtask bench` measures, and how its two halves speak: xtask gives
//! the guest's program a [`Plan`], and is told [`Figure`]s, one JSON object a
//! line.

mod random;
mod rows;

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

pub use random::Random;
pub use rows::Goal;
pub use rows::ROWS;
pub use rows::Row;
pub use rows::Set;
pub use rows::Unit;

/// A way to see the files of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stack {
    /// This project's module.
    Composefs,
    /// The image mounted as erofs from its file: metadata without content.
    Erofs,
    /// overlayfs on that, with the objects: what composefs is without us.
    Overlay,
    /// The objects themselves, where they are stored.
    Ext4,
}

impl Stack {
    /// All, in the order of the table's columns.
    pub const ALL: [Self; 4] = [Self::Composefs, Self::Erofs, Self::Overlay, Self::Ext4];
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Composefs => "composefs",
            Self::Erofs => "erofs",
            Self::Overlay => "erofs+overlayfs",
            Self::Ext4 => "ext4",
        })
    }
}

/// An image and its objects, as the guest sees them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The image.
    pub path: PathBuf,
    /// Directory of objects.
    pub objects: PathBuf,
}

/// A directory of [`Plan::wide`], with so many files.
pub const TEN_THOUSAND: &str = "ten-thousand";

/// A directory of [`Plan::wide`], with so many files.
pub const HUNDRED_THOUSAND: &str = "hundred-thousand";

/// What the guest's program is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Names of the rows to measure.
    pub rows: Vec<String>,
    /// How often each is measured.
    pub repeat: u32,
    /// A large tree, in memory, without objects.
    pub tree: Image,
    /// The same tree on a disk.
    pub stored_tree: Image,
    /// An image with small files, a large one and a program, and its objects.
    pub content: Image,
    /// The same image on a disk, with fs-verity.
    pub stored_content: Image,
    /// What that image was made from.
    pub unpacked: PathBuf,
    /// An image with large directories.
    pub wide: Image,
    /// Two images of one shape, one a hundred times as large as the other.
    pub shape: Option<[Image; 2]>,
    /// Says also in which functions the kernel was, for this one.
    pub profile: Option<Stack>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Name of the row.
    pub row: String,
    /// On what.
    pub stack: Stack,
    /// One value for each repetition, in the row's unit.
    pub runs: Vec<u64>,
    /// Entries in the image, if the row walks it.
    pub entries: Option<u64>,
}

impl Figure {
    /// The value that counts: what disturbs a run only ever adds to it.
    pub fn value(&self) -> u64 {
        self.runs.iter().copied().min().unwrap_or_default()
    }

    /// How far the second best run is from the best, as a part of that. The
    /// first run after a boot finds less in memory than all later ones.
    pub fn spread(&self) -> f64 {
        let mut runs = self.runs.clone();
        runs.sort_unstable();
        let second = runs.get(1).copied().unwrap_or(self.value());
        (second - self.value()) as f64 / self.value().max(1) as f64
    }
}

/// How often the processor was seen in a function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The kernel's or a module's function.
    pub function: String,
    /// Samples in the function itself.
    pub own: u64,
    /// Samples in it and in what it called.
    pub total: u64,
}

/// Where the kernel was while a row ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Profile {
    /// Name of the row.
    pub row: String,
    /// On what.
    pub stack: Stack,
    /// What the row took while no samples were taken.
    pub instructions: u64,
    /// All functions that were seen.
    pub functions: Vec<Sample>,
}

/// A line of the guest's program.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// A measurement.
    Figure(Figure),
    /// A profile.
    Profile(Profile),
}
