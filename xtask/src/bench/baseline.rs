// SPDX-License-Identifier: GPL-2.0

//! The stored figures, tests/bench/baseline.json, with which new ones are compared.
//!
//! A change that makes something slower shows in review. It fails no test: if there are
//! good reasons for it, its commit stores the new figures.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Figure;
use composefs_bench::Row;
use composefs_bench::Stack;
use composefs_bench::Unit;
use serde::Deserialize;
use serde::Serialize;

use super::results::Results;
use crate::context::Context;

/// The smallest increase that is marked, as a fraction.
const TOLERATED: f64 = 0.02;

/// The figures of composefs, by image and row.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Baseline(BTreeMap<String, BTreeMap<String, Cost>>);

/// A stored figure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Cost {
    value: u64,
    /// How many entries were measured. Figures for other numbers cannot be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
}

impl Baseline {
    /// The increase, as a fraction of the stored figure.
    pub fn change(&self, tree: &str, figure: &Figure) -> Option<f64> {
        let was = self.0.get(tree)?.get(&figure.row)?;
        let same = was.entries == figure.entries && was.value > 0;
        same.then(|| figure.value() as f64 / was.value as f64 - 1.0)
    }

    /// Whether the increase is marked.
    pub fn is_dearer(change: f64) -> bool {
        change > TOLERATED
    }
}

fn path(context: &Context) -> PathBuf {
    context.repo.join("tests/bench/baseline.json")
}

/// Reads the stored figures. Without a file there are none.
///
/// # Errors
///
/// When the file is damaged.
pub fn load(context: &Context) -> Result<Baseline> {
    let path = path(context);
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; --save-baseline writes it", path.display())),
        Err(_) => Ok(Baseline::default()),
    }
}

/// Stores these figures. Rows that were not measured keep theirs.
///
/// # Errors
///
/// When the file cannot be written.
pub fn save(context: &Context, mut baseline: Baseline, results: &Results) -> Result<()> {
    let rows = baseline.0.entry(results.tree.clone()).or_default();
    for figure in &results.figures {
        // Times differ from machine to machine.
        let lasting = Row::named(&figure.row).is_some_and(|row| row.unit != Unit::Time);
        if figure.stack == Stack::Composefs && lasting {
            let cost = Cost {
                value: figure.value(),
                entries: figure.entries,
            };
            rows.insert(figure.row.clone(), cost);
        }
    }
    let path = path(context);
    let text = serde_json::to_string_pretty(&baseline)? + "\n";
    fs::write(&path, text).with_context(|| path.display().to_string())
}
