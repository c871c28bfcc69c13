// SPDX-License-Identifier: GPL-2.0

//! An image that is being changed.

use rand::seq::IndexedRandom as _;
use rand::Rng as _;

use crate::bytes::{get, put, write};
use crate::survey::{Inode, Survey};
use crate::{Base, Random};

pub(crate) const BLOCK: usize = 4096;

/// Values that are often at a limit.
const EDGES: [u64; 24] = [
    0,
    1,
    2,
    3,
    4,
    8,
    11,
    12,
    13,
    31,
    32,
    64,
    127,
    255,
    256,
    4095,
    4096,
    4097,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    i64::MAX as u64,
    u64::MAX,
];

/// An image that is being changed, and what it is changed with.
pub(crate) struct Draft<'a> {
    pub(crate) bytes: Vec<u8>,
    /// The fields of the image, before the first change.
    pub(crate) survey: &'a Survey,
    /// Other good images, to take parts from.
    pub(crate) others: &'a [Base],
    pub(crate) random: &'a mut Random,
}

impl Draft<'_> {
    /// Returns a random number below `end`, or 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            end => self.random.random_range(0..end),
        }
    }

    /// Returns true with a probability of 1 in `times`.
    pub(crate) fn once_in(&mut self, times: u32) -> bool {
        self.random.random_ratio(1, times)
    }

    /// Picks one of `items`.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        items.choose(self.random).copied()
    }

    /// Picks an inode.
    pub(crate) fn inode(&mut self) -> Option<Inode> {
        let survey = self.survey;
        self.pick(&survey.inodes)
    }

    /// Picks an inode whose mode has `kind` as its `S_IFMT` bits.
    pub(crate) fn inode_of(&mut self, kind: u64) -> Option<Inode> {
        let survey = self.survey;
        let some: Vec<Inode> = survey
            .inodes
            .iter()
            .filter(|inode| inode.kind == kind)
            .copied()
            .collect();
        self.pick(&some)
    }

    /// Returns the field of `width` bytes at `at`; 0 beyond the end.
    pub(crate) fn get(&self, at: usize, width: usize) -> u64 {
        get(&self.bytes, at, width).unwrap_or(0)
    }

    /// Overwrites the field of `width` bytes at `at`. Returns whether a byte has changed.
    pub(crate) fn put(&mut self, at: usize, width: usize, value: u64) -> bool {
        put(&mut self.bytes, at, width, value)
    }

    /// Overwrites the bytes at `at`. Returns whether a byte has changed.
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) -> bool {
        write(&mut self.bytes, at, data)
    }

    /// Overwrites the field of `width` bytes at `at` with one of `likely`, a limit, a number near
    /// the old one, or any number. Returns whether a byte has changed.
    pub(crate) fn disturb(&mut self, at: usize, width: usize, likely: &[u64]) -> bool {
        let old = self.get(at, width);
        let value = match self.below(10) {
            0..=3 if !likely.is_empty() => self.pick(likely),
            0..=5 => self.pick(&EDGES),
            6 => Some(old.wrapping_add(1)),
            7 => Some(old.wrapping_sub(1)),
            8 => Some(old ^ (1 << self.below(8 * width))),
            _ => None,
        };
        let value = value.unwrap_or_else(|| self.random.random());
        self.put(at, width, value)
    }

    /// Overwrites one of the `len` bytes at `at`. Returns whether a byte has changed.
    pub(crate) fn disturb_byte(&mut self, (at, len): (usize, usize), likely: &[u8]) -> bool {
        if len == 0 {
            return false;
        }
        let at = at + self.below(len);
        let likely: Vec<u64> = likely.iter().map(|byte| u64::from(*byte)).collect();
        self.disturb(at, 1, &likely)
    }

    /// Sets `blocks` of the superblock to the number of blocks of the image.
    pub(crate) fn set_blocks(&mut self) {
        let blocks = (self.bytes.len() / BLOCK) as u64;
        self.put(1060, 4, blocks);
    }
}
