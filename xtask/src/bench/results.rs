// SPDX-License-Identifier: GPL-2.0

//! The measurements of one run.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Figure;
use composefs_bench::Profile;
use composefs_bench::Stack;
use serde::Serialize;

/// All figures of a run, as stored in JSON.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// Name of the image that was walked.
    pub tree: String,
    /// The measurements.
    pub figures: Vec<Figure>,
    /// The profiles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
}

impl Results {
    /// The measurement of a row on a stack.
    pub fn figure(&self, row: &str, stack: Stack) -> Option<&Figure> {
        self.figures
            .iter()
            .find(|figure| figure.row == row && figure.stack == stack)
    }

    /// The cost of a row on composefs, as a multiple of that on another stack.
    pub fn ratio(&self, row: &str, to: Stack) -> Option<f64> {
        self.quotient(row, Stack::Composefs, to)
    }

    /// The cost of a row on one stack, as a multiple of that on another.
    pub fn quotient(&self, row: &str, of: Stack, to: Stack) -> Option<f64> {
        let of = self.figure(row, of)?.value();
        let to = self.figure(row, to)?.value();
        (to > 0).then(|| of as f64 / to as f64)
    }

    /// Writes all results to a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }
}
