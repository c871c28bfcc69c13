// SPDX-License-Identifier: GPL-2.0

//! The figures that others are compared with, in tests/bench/baseline.json.
//!
//! A change that makes something dearer is to be seen in review. It is no test:
//! who makes it may have good reasons, and then saves new figures with it.

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

/// How much dearer is worth a mark.
const TOLERATED: f64 = 0.02;

/// What composefs cost, by image and row.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Baseline(BTreeMap<String, BTreeMap<String, Cost>>);

/// What a row cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Cost {
    value: u64,
    /// Of the image: figures of another one cannot be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
}

impl Baseline {
    /// How much dearer this is than it was, as a part of what it was.
    pub fn change(&self, tree: &str, figure: &Figure) -> Option<f64> {
        let was = self.0.get(tree)?.get(&figure.row)?;
        let same = was.entries == figure.entries && was.value > 0;
        same.then(|| figure.value() as f64 / was.value as f64 - 1.0)
    }

    /// Whether a change is worth a mark.
    pub fn is_dearer(change: f64) -> bool {
        change > TOLERATED
    }
}

fn path(context: &Context) -> PathBuf {
    context.repo.join("tests/bench/baseline.json")
}

/// Reads what is stored; nothing if it is not there.
///
/// # Errors
///
/// When it is damaged.
pub fn load(context: &Context) -> Result<Baseline> {
    let path = path(context);
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; --save-baseline writes it", path.display())),
        Err(_) => Ok(Baseline::default()),
    }
}

/// Stores these figures; rows that were not measured keep theirs.
///
/// # Errors
///
/// When the file cannot be written.
pub fn save(context: &Context, mut baseline: Baseline, results: &Results) -> Result<()> {
    let rows = baseline.0.entry(results.tree.clone()).or_default();
    for figure in &results.figures {
        // Times are those of one machine.
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
