// SPDX-License-Identifier: GPL-2.0

//! Topics with tables of their own, beside the main table: `cargo xtask bench disks`, `containers`
//! and `files`. xtask passes a [`Plan`]; the program prints one [`Line`] of JSON for each result.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::Image;
use crate::Profile;
use crate::columns::STACKS;
use crate::columns::Way;

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

    /// The names of its columns.
    pub fn columns(self) -> Vec<String> {
        match self {
            Self::Disks | Self::Files => STACKS.map(|(stack, _)| stack.to_string()).into(),
            Self::Containers => Way::ALL.map(|way| way.to_string()).into(),
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
    /// If set: measure only the column of this name, and sample the kernel's functions.
    pub profile: Option<String>,
}

impl Plan {
    /// Whether a column is measured.
    pub fn has(&self, column: &impl fmt::Display) -> bool {
        let only = self.profile.as_ref();
        only.is_none_or(|only| *only == column.to_string())
    }
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

/// A line of the program's standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// A value of the table.
    Cell(Cell),
    /// The samples of a row.
    Profile(Profile),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_those_of_the_topic() {
        let disks = ["composefs", "erofs+overlayfs", "ext4"];
        assert_eq!(Topic::Disks.columns(), disks);
        assert_eq!(Topic::Files.columns(), disks);
        let containers = Topic::Containers.columns();
        assert!(containers.contains(&"fuse".to_owned()));
        assert!(!containers.contains(&"ext4".to_owned()));
    }

    #[test]
    fn a_profile_measures_one_column() {
        let mut plan = Plan {
            topic: Topic::Containers,
            repeat: 2,
            content: None,
            fuse: None,
            profile: None,
        };
        let measured = |plan: &Plan| Way::ALL.into_iter().filter(|way| plan.has(way)).count();
        assert_eq!(measured(&plan), Way::ALL.len());
        for name in Topic::Containers.columns() {
            plan.profile = Some(name);
            assert_eq!(measured(&plan), 1);
        }
    }
}
