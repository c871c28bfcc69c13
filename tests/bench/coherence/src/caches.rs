// SPDX-License-Identifier: GPL-2.0

//! Private caches of unlimited size, one for each processor, kept coherent by the protocol MSI.
//!
//! A line is held by any number of processors that read it, or by one that writes it.
//! The first touch of a line is no miss: it would come from memory, whatever other processors
//! do. From then on,
//!
//! - a read misses if the processor does not hold the line, and it has been written: another
//!   processor has the only current copy, or had it;
//! - a write misses if another processor holds the line, which has to give it up.

use std::collections::HashMap;

/// Bytes in a line, as a power of two.
const LINE: u32 = 6;
/// Lines in a page of [`Caches`], as a power of two.
const PAGE: u32 = 6;

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// An access.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Number of the processor.
    pub processor: u32,
    /// Physical address.
    pub address: u64,
    /// What it does.
    pub kind: Kind,
    /// Where the instruction is.
    pub at: u64,
}

impl Access {
    /// The number of the line.
    pub fn line(&self) -> u64 {
        self.address >> LINE
    }
}

/// A line.
#[derive(Clone, Copy, Default)]
struct Line {
    /// The processors that hold it, a bit for each.
    holders: u64,
    /// The instruction that wrote it last, or 0.
    writer: u64,
    /// The processor that touched it last, and the instruction.
    last: (u32, u64),
    /// The last instruction of another processor than that one.
    before: u64,
}

/// The lines of one page.
type Page = [Line; 1 << PAGE];

/// All caches.
#[derive(Default)]
pub struct Caches {
    pages: HashMap<u64, Box<Page>>,
}

impl Caches {
    /// Touches a line. If that is a miss, returns the instruction of another processor that is
    /// the cause: the one that wrote the line, or the last one that touched it.
    pub fn touch(&mut self, access: &Access) -> Option<u64> {
        let line = access.line();
        let page = self
            .pages
            .entry(line >> PAGE)
            .or_insert_with(|| Box::new([Line::default(); 1 << PAGE]));
        let line = &mut page[(line & ((1 << PAGE) - 1)) as usize];
        let own = 1 << access.processor;
        let others = line.holders & !own;
        let other = if line.last.0 == access.processor {
            line.before
        } else {
            line.last.1
        };
        let cause = match access.kind {
            Kind::Read => {
                let missed = line.writer != 0 && line.holders & own == 0;
                line.holders |= own;
                missed.then_some(line.writer)
            }
            Kind::Write => {
                line.holders = own;
                line.writer = access.at;
                (others != 0).then_some(other)
            }
        };
        if line.last.0 != access.processor {
            line.before = line.last.1;
        }
        line.last = (access.processor, access.at);
        cause
    }
}

#[cfg(test)]
mod tests {
    use super::Kind::Read;
    use super::Kind::Write;
    use super::*;

    /// The misses of a sequence of accesses, of which each has its number as its place.
    fn misses(accesses: &[(u32, u64, Kind)]) -> Vec<(u64, u64)> {
        let mut caches = Caches::default();
        let places = 1..;
        accesses
            .iter()
            .zip(places)
            .filter_map(|(&(processor, address, kind), at)| {
                let access = Access {
                    processor,
                    address,
                    kind,
                    at,
                };
                caches.touch(&access).map(|cause| (at, cause))
            })
            .collect()
    }

    #[test]
    fn what_is_only_read_never_misses() {
        assert_eq!(misses(&[(0, 0, Read), (1, 0, Read), (0, 8, Read)]), []);
    }

    #[test]
    fn what_one_processor_has_to_itself_never_misses() {
        let own = [(0, 0, Write), (1, 64, Write), (0, 0, Read), (0, 63, Write)];
        assert_eq!(misses(&own), []);
    }

    #[test]
    fn each_write_of_what_another_has_written_misses() {
        let turns = [(0, 0, Write), (1, 0, Write), (0, 32, Write), (0, 0, Write)];
        assert_eq!(misses(&turns), [(2, 1), (3, 2)]);
    }

    #[test]
    fn a_read_misses_once_after_a_write() {
        let said = [(0, 0, Write), (1, 0, Read), (1, 0, Read), (2, 0, Read)];
        assert_eq!(misses(&said), [(2, 1), (4, 1)]);
    }

    #[test]
    fn a_write_misses_what_others_have_read() {
        let said = [(0, 0, Read), (1, 0, Read), (0, 0, Write), (0, 0, Write)];
        assert_eq!(misses(&said), [(3, 2)]);
        let said = [(0, 0, Write), (1, 0, Read), (0, 0, Read), (0, 0, Write)];
        assert_eq!(misses(&said), [(2, 1), (4, 2)]);
    }
}
