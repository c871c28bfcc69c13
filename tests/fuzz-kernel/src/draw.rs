// SPDX-License-Identifier: GPL-2.0

//! Random cases, and random changes to them.

use composefs_image_mutate::Base;
use composefs_image_mutate::Random;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use composefs_fuzz_cases::case::Case;
use composefs_fuzz_cases::case::OPS_MAX;
use composefs_fuzz_cases::grammar::Kind;
use composefs_fuzz_cases::grammar::Op;
use composefs_fuzz_cases::seeds;
use composefs_fuzz_cases::seeds::OBJECTS;
use composefs_fuzz_cases::seeds::Seeds;

/// What is done more often than to its share.
const LIKELY: [Kind; 9] = [
    Kind::Open,
    Kind::Open,
    Kind::Read,
    Kind::Map,
    Kind::List,
    Kind::Stat,
    Kind::Handle,
    Kind::Harm,
    Kind::Xattr,
];

/// A case of which the whole corpus may come: mounts a seed, and uses it in each way once.
pub fn first(seed: u32, random: &mut Random) -> Case {
    let mut case = Case {
        seed,
        ..Case::default()
    };
    case.ops.push(Op::draw_kind(Kind::Mount, random));
    for _ in 0..random.random_range(3..OPS_MAX / 2) {
        case.ops.push(op(random));
    }
    case
}

fn op(random: &mut Random) -> Op {
    match LIKELY.choose(random) {
        Some(kind) if random.random_ratio(1, 2) => Op::draw_kind(*kind, random),
        _ => Op::draw(random),
    }
}

/// Operations that mean something together: a file is used whose object is not as it should be.
fn phrase(random: &mut Random) -> Vec<Op> {
    let mut harm = Op::draw_kind(Kind::Harm, random);
    let mut open = Op::draw_kind(Kind::Open, random);
    let (name, _) = OBJECTS[harm.value(0) as usize % OBJECTS.len()];
    let path = seeds::paths().iter().position(|path| path == name);
    open.set(1, path.unwrap_or(0) as u32);
    open.set(2, 0);
    let kinds = [Kind::Read, Kind::Map, Kind::Splice, Kind::Copy];
    let kind = kinds.choose(random).copied().unwrap_or(Kind::Read);
    let mut using = Op::draw_kind(kind, random);
    using.set(0, open.value(0));
    using.set(1, 0);
    let mut phrase = vec![harm.clone(), open, using.clone()];
    if random.random_ratio(1, 2) {
        phrase.swap(0, 1);
        // What is missing when a file is opened is looked up by the first read or map.
        if random.random_ratio(1, 2) {
            let mut away = harm.clone();
            away.set_word(1, "away");
            phrase.insert(0, away);
        }
    }
    if random.random_ratio(1, 2) {
        harm.set_word(1, "back");
        phrase.extend([harm, using]);
    }
    phrase
}

/// Changes a case in one to eight ways. `other` is one to take operations from.
pub fn mutate(case: &mut Case, other: Option<&Case>, seeds: &Seeds, random: &mut Random) {
    let before = case.clone();
    // Of a good image, it is known what it has to show. Otherwise, the changes would add up.
    if random.random_ratio(1, 3) {
        case.changes.clear();
        case.length = None;
    }
    while *case == before {
        for _ in 0..1 << random.random_range(0..4) {
            once(case, other, seeds, random);
        }
    }
    if !case.ops.iter().any(|op| op.kind == Kind::Mount) {
        case.ops.insert(0, Op::draw_kind(Kind::Mount, random));
    }
    case.ops.truncate(OPS_MAX);
}

fn once(case: &mut Case, other: Option<&Case>, seeds: &Seeds, random: &mut Random) {
    let count = case.ops.len();
    let at = random.random_range(0..count.max(1));
    match random.random_range(0..20) {
        0..=4 => case.ops.insert(random.random_range(0..=count), op(random)),
        5 => {
            let at = random.random_range(0..=count);
            drop(case.ops.splice(at..at, phrase(random)));
        }
        6..=10 => {
            if let Some(op) = case.ops.get_mut(at) {
                op.disturb(random);
            }
        }
        11..=12 if count > 1 => drop(case.ops.remove(at)),
        13 if count > 1 => case.ops.swap(at, random.random_range(0..count)),
        // The same again, often after something else.
        14 => {
            if let Some(op) = case.ops.get(at).cloned() {
                case.ops.insert(random.random_range(0..=count), op);
            }
        }
        15 => {
            if let Some(other) = other {
                let from = random.random_range(0..=other.ops.len());
                let rest = other.ops.get(from..).unwrap_or_default();
                case.ops.truncate(at + 1);
                case.ops.extend_from_slice(rest);
            }
        }
        16..=17 => {
            let seed = seeds.image(case.seed);
            let image = if random.random_ratio(1, 2) {
                Base::new(seed.to_vec())
            } else {
                Base::new(case.image(seed))
            };
            let (image, _) = image.mutate(&[], random);
            case.set_image(seed, &image);
        }
        18 => {
            case.changes.clear();
            case.length = None;
            case.seed = random.random_range(0..seeds::NAMES.len() as u32);
        }
        _ => {
            if case.changes.len() > 1 {
                let at = random.random_range(0..case.changes.len());
                case.changes.remove(at);
            }
        }
    }
}
