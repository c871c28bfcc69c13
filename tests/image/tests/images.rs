// SPDX-License-Identifier: GPL-2.0

//! Walks of real images: gzip-compressed files in the directory `COMPOSEFS_IMAGES`. If that is not
//! set, these tests are reported as ignored.

mod support;

use std::io::Read;
use std::path::PathBuf;

use composefs_image::{Image, Source};
use composefs_image_mutate::{mutant, Base};
use libtest_mimic::{Arguments, Failed, Trial};

use support::memory::{random, Memory};
use support::walk::{walk, Seen};

fn load(name: &str) -> Result<Vec<u8>, Failed> {
    let folder = std::env::var_os("COMPOSEFS_IMAGES").ok_or("COMPOSEFS_IMAGES is not set")?;
    let path = PathBuf::from(folder).join(name);
    let file = std::fs::File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut bytes = vec![];
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads everything. The walk finds every inode that the superblock counts, except the 256 stubs
/// in the root.
fn whole(name: &str, version: u32, external: u64) -> Result<(), Failed> {
    let source = Memory::new(load(name)?);
    let image = Image::open(Memory::new(source.bytes.clone())).map_err(|e| format!("{e:?}"))?;
    let sb = *image.superblock();
    assert_eq!(sb.composefs_version, version);
    assert_eq!(u64::from(sb.blocks) * 4096, source.size());
    let seen: Seen = walk(source, usize::MAX);
    assert_eq!((seen.corrupt, seen.faults), (0, 0), "{seen:?}");
    assert_eq!(seen.inodes, sb.inos - 256, "{seen:?}");
    assert_eq!(seen.external, external, "{seen:?}");
    Ok(())
}

/// Walks a real image `rounds` times with other random bytes, one in `rate`.
fn damaged(name: &str, rate: usize, rounds: u64) -> Result<(), Failed> {
    let whole = load(name)?;
    let mut state = 42;
    let mut inodes = 0;
    for _ in 0..rounds {
        let mut bytes = whole.clone();
        for _ in 0..whole.len() / rate {
            let at = 1152 + random(&mut state) as usize % (bytes.len() - 1152);
            bytes[at] = match random(&mut state) % 3 {
                0 => random(&mut state) as u8,
                1 => bytes[at] ^ (1 << (random(&mut state) % 8)),
                _ => 0xff,
            };
        }
        inodes += walk(Memory::new(bytes), 1000).inodes;
    }
    assert!(inodes > rounds * 4, "too few inodes were read: {inodes}");
    Ok(())
}

/// Walks real images with one to four changed fields.
fn mutants(names: &[&str], count: u64) -> Result<(), Failed> {
    let bases = names.iter().map(|name| load(name).map(Base::new));
    let bases = bases.collect::<Result<Vec<_>, _>>()?;
    let mut inodes = 0;
    for index in 0..count {
        inodes += walk(Memory::new(mutant(&bases, 1, index).bytes), 400).inodes;
    }
    assert!(inodes > count * 5, "too few inodes were read: {inodes}");
    Ok(())
}

fn main() {
    let arguments = Arguments::from_args();
    let missing = std::env::var_os("COMPOSEFS_IMAGES").is_none();
    let trials = vec![
        Trial::test("cs9_minimal", || whole("cs9-minimal.cfs.gz", 0, 15_959)),
        Trial::test("special_v0", || whole("special-v0.cfs.gz", 0, 0)),
        Trial::test("special_v1", || whole("special-v1.cfs.gz", 1, 0)),
        Trial::test("damaged_special", || {
            damaged("special-v1.cfs.gz", 3000, 2000)
        }),
        Trial::test("mutants_special", || {
            mutants(&["special-v0.cfs.gz", "special-v1.cfs.gz"], 1000)
        }),
        Trial::test("damaged_cs9", || damaged("cs9-minimal.cfs.gz", 4000, 30)),
    ];
    let trials = trials
        .into_iter()
        .map(|trial| trial.with_ignored_flag(missing))
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
