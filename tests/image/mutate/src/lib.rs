// SPDX-License-Identifier: GPL-2.0

//! Makes hostile images from good ones.
//!
//! Most random bit flips hit bytes that nothing reads. So this crate knows the format: it finds
//! the fields of a good image, and makes one to four changes to them, often to a limit or to a
//! reference to something else. The rest of the image stays valid, so that it is mounted and walked
//! until the changed field is read.
//!
//! A seed decides on the changes: the same seed makes the same images, in the guest and on the
//! host.

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

/// The generator of all random choices.
pub type Random = Xoshiro256PlusPlus;

/// Number of kinds to try, as some find nothing to change.
const TRIES: usize = 20;

/// A good image, and its fields.
#[derive(Clone, Debug)]
pub struct Base {
    bytes: Vec<u8>,
    survey: Survey,
}

/// A hostile image.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The image.
    pub bytes: Vec<u8>,
    /// Index of the base that it was made from.
    pub base: usize,
    /// The changes, in their order.
    pub kinds: Vec<Kind>,
}

impl Base {
    /// Finds the fields of an image. In a damaged image, it finds fewer.
    pub fn new(bytes: Vec<u8>) -> Self {
        let survey = Survey::new(&bytes);
        Self { bytes, survey }
    }

    /// Returns the image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Finds the inodes that differ in `bytes`, which was made from this image.
    pub fn touched(&self, bytes: &[u8]) -> Touched {
        Touched::new(&self.survey, &self.bytes, bytes)
    }

    /// Makes one to four changes. `others` are images to copy parts from.
    ///
    /// Returns the changed image and the changes, of which there are none if the image has no
    /// fields.
    pub fn mutate(&self, others: &[Self], random: &mut Random) -> (Vec<u8>, Vec<Kind>) {
        let mut draft = Draft {
            bytes: self.bytes.clone(),
            survey: &self.survey,
            others,
            random,
        };
        let mut kinds = vec![];
        // Half of the images have one change only: several can hide each other.
        let wanted = 4 - (draft.below(15) + 1).ilog2() as usize;
        for _ in 0..TRIES {
            let Some(&kind) = Kind::ALL.choose(draft.random) else {
                break;
            };
            if kind.change()(&mut draft) {
                kinds.push(kind);
            }
            // A second swap may have undone the first one.
            if kinds.len() >= wanted && draft.bytes != self.bytes {
                break;
            }
        }
        (draft.bytes, kinds)
    }
}

/// Makes the image number `index` of a seed.
///
/// # Panics
///
/// If `bases` is empty.
pub fn mutant(bases: &[Base], seed: u64, index: u64) -> Mutant {
    let mut random = Random::seed_from_u64(seed);
    let start = random.random::<u64>().wrapping_add(index);
    let mut random = Random::seed_from_u64(start);
    let base = random.random_range(0..bases.len());
    let (bytes, kinds) = bases[base].mutate(bases, &mut random);
    Mutant { bytes, base, kinds }
}
