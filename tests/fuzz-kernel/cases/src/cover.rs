// SPDX-License-Identifier: GPL-2.0

//! What cases have covered.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;

/// Size of the map of steps, a power of two.
pub const MAP: usize = 1 << 16;

/// What was covered.
#[derive(Default)]
pub struct Cover {
    places: BTreeSet<u32>,
}

/// The entry in the map of a step from one place in the code to the next one.
pub fn step(from: u32, to: u32) -> usize {
    // Places are no multiples of anything: both halves of the product depend on all bits.
    let both = u64::from(from) << 32 | u64::from(to);
    let mixed = both.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    mixed as usize & (MAP - 1)
}

impl Cover {
    /// Reads the places that another run has written.
    #[cfg(test)]
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let places = text
            .lines()
            .filter_map(|line| u32::from_str_radix(line, 16).ok());
        Self {
            places: places.collect(),
        }
    }

    /// Adds a place.
    pub fn add(&mut self, place: u32) {
        self.places.insert(place);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Writes them: a line has one, in hexadecimal digits.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let lines: Vec<String> = self
            .places
            .iter()
            .map(|place| format!("{place:x}\n"))
            .collect();
        fs::write(path, lines.concat()).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_spread_over_the_map() {
        let mut seen = BTreeSet::new();
        for place in 0..2000_u32 {
            seen.insert(step(place * 37, place * 37 + 11));
        }
        assert!(seen.len() > 1900, "{}", seen.len());
        assert_ne!(step(1, 2), step(2, 1));
    }

    #[test]
    fn places_can_be_read_again() -> Result<()> {
        let path = std::env::temp_dir().join(format!("cover-{}", std::process::id()));
        let mut cover = Cover::default();
        for place in [0x12, 0xabcdef, 0x12] {
            cover.add(place);
        }
        cover.write(&path)?;
        let again = Cover::read(&path);
        fs::remove_file(&path)?;
        assert_eq!(again.places, cover.places);
        assert_eq!(again.count(), 2);
        Ok(())
    }
}
