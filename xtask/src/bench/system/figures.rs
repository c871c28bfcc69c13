// SPDX-License-Identifier: GPL-2.0

//! What is measured of a boot.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use serde::Serialize;

/// How the system gets its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Way {
    /// This file system
    Composefs,
    /// The same, with what the boot needs read ahead
    Ahead,
    /// The same as [`Self::Ahead`], with small files in the image itself
    Inline,
    /// The same image and objects by two file systems
    Overlay,
    /// The same tree, without an image
    Ext4,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Composefs,
        Self::Ahead,
        Self::Inline,
        Self::Overlay,
        Self::Ext4,
    ];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Composefs => "composefs",
            Self::Ahead => "r.ahead",
            Self::Inline => "inline",
            Self::Overlay => "er.+ovl.",
            Self::Ext4 => "ext4",
        })
    }
}

/// A row: its name in the guest's answer, and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name.
    pub name: &'static str,
    /// What is measured.
    pub title: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// Divides the value.
    pub divisor: f64,
    /// The most that composefs may cost, as a multiple of ext4.
    pub goal: Option<f64>,
}

const fn row(name: &'static str, title: &'static str, unit: &'static str, divisor: f64) -> Row {
    Row {
        name,
        title,
        unit,
        divisor,
        goal: None,
    }
}

/// The rows.
pub const ROWS: [Row; 11] = [
    Row {
        goal: Some(1.03),
        ..row(
            "instructions",
            "instructions until all units are started",
            "M instr",
            1e6,
        )
    },
    row(
        "answer-instructions",
        "instructions until the first answer",
        "M instr",
        1e6,
    ),
    Row {
        goal: Some(1.10),
        ..row(
            "requests",
            "read requests until all units are started",
            "requests",
            1.0,
        )
    },
    row(
        "answer-requests",
        "read requests until the first answer",
        "requests",
        1.0,
    ),
    row(
        "kib",
        "read from the disk until all units are started",
        "KiB",
        1.0,
    ),
    row("slab", "slab", "KiB", 1.0),
    row("cache", "page cache", "KiB", 1.0),
    row("anonymous", "anonymous memory", "KiB", 1.0),
    row("processes", "processes and threads started", "", 1.0),
    row("seconds", "kernel to multi-user.target, wall", "s", 1e6),
    row(
        "answer-seconds",
        "kernel to the first answer, wall",
        "s",
        1e6,
    ),
];

/// The values of one boot, by the name of their row.
pub type Values = BTreeMap<String, u64>;

/// The values of all boots.
#[derive(Debug, Default, Serialize)]
pub struct Results(BTreeMap<Way, Vec<Values>>);

impl Results {
    /// Adds those of a boot.
    pub fn add(&mut self, way: Way, values: Values) {
        self.0.entry(way).or_default().push(values);
    }

    /// The values of a row, least first.
    fn values(&self, way: Way, row: &Row) -> Vec<u64> {
        let boots = self.0.get(&way).into_iter().flatten();
        let mut values: Vec<u64> = boots
            .filter_map(|boot| boot.get(row.name).copied())
            .collect();
        values.sort_unstable();
        values
    }

    /// The least value of a row: a disturbance only ever adds to one.
    pub fn value(&self, way: Way, row: &Row) -> Option<u64> {
        self.values(way, row).first().copied()
    }

    /// How much more the greatest value of a row is, as a fraction.
    pub fn spread(&self, way: Way, row: &Row) -> Option<f64> {
        let values = self.values(way, row);
        let (least, most) = (*values.first()?, *values.last()?);
        (least > 0).then(|| most as f64 / least as f64 - 1.0)
    }

    /// The cost of a row as a multiple of that of another way.
    pub fn ratio(&self, of: Way, to: Way, row: &Row) -> Option<f64> {
        let (of, to) = (self.value(of, row)?, self.value(to, row)?);
        (to > 0).then(|| of as f64 / to as f64)
    }

    /// Writes all to a file.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }
}

/// A value as tables show it.
pub fn amount(row: &Row, value: u64) -> String {
    let decimals = if row.divisor > 1.0 { 1 } else { 0 };
    format!("{:.decimals$}", value as f64 / row.divisor)
}
