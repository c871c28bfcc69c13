// SPDX-License-Identifier: GPL-2.0

//! Hostile images, made of good ones.
//!
//! Most flips of a random bit hit nothing that anybody reads. So this knows the format: it finds
//! the fields of a good image, and changes one to four of them to values that are at the edge of
//! something, or lead to where something else is. What else the images hold stays as it was, so
//! that they are mounted and walked until the changed field is met.
//!
//! It decides by a seed: the same one makes the same images, in the guest and on the host.

mod bytes;
mod dirent;
mod draft;
mod inode;
mod kind;
mod relocate;
mod shape;
mod superblock;
mod survey;
mod touched;
mod xattr;

use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

pub use kind::Kind;
pub use touched::Touched;

use draft::Draft;
use survey::Survey;

/// What decides.
pub type Random = Xoshiro256PlusPlus;

/// Kinds that are tried until one finds something to change.
const TRIES: usize = 20;

/// An image to start from.
#[derive(Clone, Debug)]
pub struct Base {
    bytes: Vec<u8>,
    survey: Survey,
}

/// An image that was changed.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The image.
    pub bytes: Vec<u8>,
    /// Number of the image that it was made of.
    pub base: usize,
    /// What was done to it, in this order.
    pub kinds: Vec<Kind>,
}

impl Base {
    /// Finds the fields of an image. Any bytes will do; the better the image, the more is found.
    pub fn new(bytes: Vec<u8>) -> Self {
        let survey = Survey::new(&bytes);
        Self { bytes, survey }
    }

    /// Returns the image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Finds out what is not in `bytes`, which was made of this image, as it was.
    pub fn touched(&self, bytes: &[u8]) -> Touched {
        Touched::new(&self.survey, &self.bytes, bytes)
    }

    /// Changes one thing or a few. `others` are images to take parts from.
    ///
    /// Returns the image and what was done to it; nothing was if there is nothing in it.
    pub fn mutate(&self, others: &[Self], random: &mut Random) -> (Vec<u8>, Vec<Kind>) {
        let mut draft = Draft {
            bytes: self.bytes.clone(),
            survey: &self.survey,
            others,
            random,
        };
        let mut kinds = vec![];
        // One change half of the time: several hide each other.
        let wanted = 4 - (draft.below(15) + 1).ilog2() as usize;
        for _ in 0..TRIES {
            let Some(&kind) = Kind::ALL.choose(draft.random) else {
                break;
            };
            if kind.change()(&mut draft) {
                kinds.push(kind);
            }
            // Two swaps may have been one too many.
            if kinds.len() >= wanted && draft.bytes != self.bytes {
                break;
            }
        }
        (draft.bytes, kinds)
    }
}

/// Makes the image number `index` of those that `seed` stands for.
///
/// # Panics
///
/// If there are no `bases`.
pub fn mutant(bases: &[Base], seed: u64, index: u64) -> Mutant {
    let mut random = Random::seed_from_u64(seed);
    let start = random.random::<u64>().wrapping_add(index);
    let mut random = Random::seed_from_u64(start);
    let base = random.random_range(0..bases.len());
    let (bytes, kinds) = bases[base].mutate(bases, &mut random);
    Mutant { bytes, base, kinds }
}
