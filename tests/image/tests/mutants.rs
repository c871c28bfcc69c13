// SPDX-License-Identifier: GPL-2.0

//! Images with one to four changed fields: the results of the parser must be errors, or consistent
//! with each other.

mod support;

use std::collections::BTreeMap;

use composefs_image_mutate::{mutant, Base, Kind};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use support::walk::walk;
use support::{model, writer, Memory};

proptest! {
    #![proptest_config(support::cases(60))]

    #[test]
    fn answers_fit_together(
        trees in prop::collection::vec((model::tree(30), writer::options()), 1..4),
        seed: u64,
    ) {
        let bases: Vec<Base> = trees
            .iter()
            .map(|(tree, options)| Base::new(writer::write(tree, options).bytes))
            .collect();
        for index in 0..60 {
            let mutant = mutant(&bases, seed, index);
            // Prints the image if walk() panics.
            let _context = Context(seed, index, &mutant.kinds);
            walk(Memory::new(mutant.bytes), 100);
        }
    }
}

/// Prints seed, index and kinds of an image when it is dropped in a panic.
struct Context<'a>(u64, u64, &'a [Kind]);

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, index {}: {:?}", self.0, self.1, self.2);
        }
    }
}

/// Some images, the same in each run.
fn bases() -> Vec<Base> {
    let mut runner = TestRunner::deterministic();
    let strategy = (model::tree(60), writer::options());
    (0..6)
        .map(|_| {
            let (tree, options) = strategy.new_tree(&mut runner).unwrap().current();
            Base::new(writer::write(&tree, &options).bytes)
        })
        .collect()
}

/// The changes are useful: all kinds of them are made, most images can still be mounted, and damage
/// is found in many of these.
#[test]
fn changes_are_met() {
    let bases = bases();
    let mut kinds = BTreeMap::new();
    let (mut mounted, mut damaged) = (0, 0);
    for index in 0..4000 {
        let mutant = mutant(&bases, 1, index);
        let unchanged = mutant.bytes == bases[mutant.base].bytes();
        assert!(!unchanged && !mutant.kinds.is_empty(), "image {index}");
        for kind in mutant.kinds {
            *kinds.entry(kind.name()).or_insert(0) += 1;
        }
        let seen = walk(Memory::new(mutant.bytes), 100);
        mounted += u32::from(seen.inodes > 0);
        damaged += u32::from(seen.inodes > 0 && seen.corrupt > 0);
    }
    assert_eq!(kinds.len(), Kind::ALL.len(), "{kinds:?}");
    assert!(mounted > 2400, "{mounted} of 4000 were mounted");
    assert!(damaged > 1000, "{damaged} of 4000 were seen to be damaged");
}

/// Images that were changed many times can be changed again.
#[test]
fn changes_of_changes() {
    let bases = bases();
    for seed in 0..40 {
        let mut base = bases[seed as usize % bases.len()].clone();
        for index in 0..40 {
            let mutant = mutant(&[base], seed, index);
            walk(Memory::new(mutant.bytes.clone()), 20);
            base = Base::new(mutant.bytes);
        }
    }
    for len in [0, 1, 31, 1024, 1151] {
        assert_eq!(mutant(&[Base::new(vec![0; len])], 1, 1).base, 0);
    }
}

/// A seed and an index always make the same image.
#[test]
fn a_seed_is_an_image() {
    let bases = bases();
    let again = bases.clone();
    for index in 0..200 {
        let one = mutant(&bases, 7, index);
        let two = mutant(&again, 7, index);
        assert_eq!((one.base, one.kinds), (two.base, two.kinds));
        assert!(one.bytes == two.bytes, "image {index}");
    }
    assert!(mutant(&bases, 7, 0).bytes != mutant(&bases, 8, 0).bytes);
}
