// SPDX-License-Identifier: GPL-2.0

//! One of several shares of a suite's programs. A run that was stopped goes on with the first
//! share that did not run, rather than with the suite.

use std::fmt;

use super::lanes;
use crate::kernel::Flavor;

/// A share, written as `2of12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which one, from 1.
    number: usize,
    /// How many there are.
    of: usize,
}

impl Share {
    /// All shares, where there are so many.
    pub fn all(of: usize) -> impl Iterator<Item = Self> {
        (1..=of).map(move |number| Self { number, of })
    }

    /// The share that is written so, where there are so many.
    pub fn parse(text: &str, of: usize) -> Option<Self> {
        Self::all(of).find(|share| share.to_string() == text)
    }

    /// The programs of this share. No program is in two, and no share takes longer than it must.
    pub fn programs<'a>(self, names: &[&'a str], flavor: Flavor) -> Vec<&'a str> {
        let mut shares = lanes::split(names, flavor, self.of).into_iter();
        shares.nth(self.number - 1).unwrap_or_default()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}of{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_as_it_is_written() {
        for share in Share::all(3) {
            assert_eq!(Share::parse(&share.to_string(), 3), Some(share));
        }
        for wrong in ["", "of", "0of3", "4of3", "1of4", "+1of3", "readdir"] {
            assert_eq!(Share::parse(wrong, 3), None, "{wrong}");
        }
    }

    #[test]
    fn every_program_is_in_one_share() {
        let names = ["differential_large", "a", "b", "c", "d"];
        let mut all: Vec<&str> = Share::all(3)
            .flat_map(|share| share.programs(&names, Flavor::Debug))
            .collect();
        all.sort_unstable();
        assert_eq!(all, ["a", "b", "c", "d", "differential_large"]);
        let first = Share::all(3).next();
        // The one that takes longest is alone.
        assert_eq!(
            first.map(|share| share.programs(&names, Flavor::Debug)),
            Some(vec!["differential_large"])
        );
        // There may be more shares than programs.
        let last = Share::all(9).last();
        assert_eq!(
            last.map(|share| share.programs(&names, Flavor::Debug)),
            Some(Vec::new())
        );
    }
}
