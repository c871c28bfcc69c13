// SPDX-License-Identifier: GPL-2.0

//! What some tests gave.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

/// The results of some tests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How many tests passed.
    pub passed: u32,
    /// How many failed.
    pub failed: u32,
    /// How many were skipped.
    pub skipped: u32,
    /// The names of the tests that failed.
    pub failures: Vec<String>,
    /// What they measured: names and values.
    pub figures: Vec<(String, String)>,
    /// All boots of the guest.
    pub guests: Guests,
}

/// All boots of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guests {
    /// How many there were.
    pub boots: u32,
    /// How long they took together.
    pub time: Duration,
    /// How often their kernels complained.
    pub splats: usize,
}

impl Outcome {
    /// Adds others. Of figures with the same name, the largest counts: each share of a suite says
    /// how much was run up to then.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
        for (what, value) in other.figures {
            match self.figures.iter_mut().find(|(known, _)| *known == what) {
                Some((_, known)) if number(known) < number(&value) => *known = value,
                Some(_) => {}
                None => self.figures.push((what, value)),
            }
        }
        self.guests.boots += other.guests.boots;
        self.guests.time += other.guests.time;
        self.guests.splats += other.guests.splats;
    }

    /// Whether nothing failed and something passed.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

fn number(value: &str) -> f64 {
    value.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_equal_figures_counts() {
        let with = |value: &str| Outcome {
            figures: vec![("lines".to_owned(), value.to_owned())],
            ..Outcome::default()
        };
        let mut sum = Outcome::default();
        for value in ["90", "1105", "200"] {
            sum.add(with(value));
        }
        assert_eq!(sum.figures, with("1105").figures);
    }

    #[test]
    fn nothing_is_no_success() {
        let mut outcome = Outcome::default();
        assert!(!outcome.is_good());
        outcome.skipped = 1;
        assert!(!outcome.is_good());
        outcome.passed = 1;
        assert!(outcome.is_good());
        outcome.failed = 1;
        assert!(!outcome.is_good());
    }
}
