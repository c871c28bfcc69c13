// SPDX-License-Identifier: GPL-2.0

//! The rows of `cargo xtask bench`, and the protocol between xtask and the program
//! in the guest. xtask passes a [`Plan`]; the program prints one [`Line`] of JSON for
//! each result.

pub mod coherence;
pub mod columns;
mod random;
mod rows;
pub mod topics;

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

/// A file system, or a stack of them, that shows the files of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stack {
    /// This project's module.
    Composefs,
    /// The image mounted as erofs from its file: metadata without content.
    Erofs,
    /// overlayfs on erofs, with the object directory as a data-only layer: composefs
    /// without this module.
    Overlay,
    /// The objects themselves, where they are stored.
    Ext4,
}

impl Stack {
    /// All stacks, in the order of the table's columns.
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

/// An image and its objects, with their paths in the guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// Path of the image.
    pub path: PathBuf,
    /// Object directory.
    pub objects: PathBuf,
}

/// Name of the directory with 10,000 files in [`Plan::wide`].
pub const TEN_THOUSAND: &str = "ten-thousand";

/// Name of the directory with 100,000 files in [`Plan::wide`].
pub const HUNDRED_THOUSAND: &str = "hundred-thousand";

/// The measurements that the program in the guest makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Names of the rows to measure.
    pub rows: Vec<String>,
    /// How often each row is measured.
    pub repeat: u32,
    /// Image of a large tree, in memory, without objects.
    pub tree: Image,
    /// The same image on a disk.
    pub stored_tree: Image,
    /// An image of small files, a large file and a program, in memory, and its objects
    /// on a disk.
    pub content: Image,
    /// The same image on a disk, with fs-verity.
    pub stored_content: Image,
    /// The files that this image was made from.
    pub unpacked: PathBuf,
    /// An image with large directories.
    pub wide: Image,
    /// Two images of one shape, one a hundred times as large as the other.
    pub shape: Option<[Image; 2]>,
    /// If set: measure only this stack, and sample the kernel's functions.
    pub profile: Option<Stack>,
}

/// The measured values of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Name of the row.
    pub row: String,
    /// The stack that was measured.
    pub stack: Stack,
    /// One value for each repetition, in the row's unit.
    pub runs: Vec<u64>,
    /// Number of entries in the image, if the row walks it.
    pub entries: Option<u64>,
}

impl Figure {
    /// The least of the runs: a disturbance only ever adds to a run.
    pub fn value(&self) -> u64 {
        self.runs.iter().copied().min().unwrap_or_default()
    }

    /// The difference between the two best runs, as a fraction of the best. The other
    /// runs do not count, because the first one after a boot finds less in memory.
    pub fn spread(&self) -> f64 {
        let mut runs = self.runs.clone();
        runs.sort_unstable();
        let second = runs.get(1).copied().unwrap_or(self.value());
        (second - self.value()) as f64 / self.value().max(1) as f64
    }
}

/// How many samples were taken in a function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Name of a function of the kernel or of a module.
    pub function: String,
    /// Samples in the function itself.
    pub own: u64,
    /// Samples in the function and in its callees.
    pub total: u64,
}

/// The samples of a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Profile {
    /// Name of the row.
    pub row: String,
    /// What was measured, by its name on the command line: a stack, or another column of a table.
    pub column: String,
    /// Instructions of a run without samples.
    pub instructions: u64,
    /// All functions with at least one sample.
    pub functions: Vec<Sample>,
}

/// A line of the program's standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The values of a row.
    Figure(Figure),
    /// The samples of a row.
    Profile(Profile),
}
