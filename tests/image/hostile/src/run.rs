// SPDX-License-Identifier: GPL-2.0

//! One image after another.

use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_image_mutate::Base;
use composefs_image_mutate::Mutant;
use composefs_image_mutate::mutant;
use rustix::fs::fstatfs;
use rustix::io::Errno;

use crate::args::Args;
use crate::expected::Expected;
use crate::figures;
use crate::figures::Figures;
use crate::keep::Keeper;
use crate::mount::Mounter;
use crate::operation::Operation;
use crate::operation::perform;
use crate::parser;
use crate::walk::Seen;
use crate::walk::walk;
use crate::watchdog;

/// Images with which something may be wrong before it is enough.
const FAILURES_MAX: u32 = 5;

/// Runs all and prints KTAP.
///
/// # Errors
///
/// When it cannot be run, whatever the images hold.
pub fn run(args: &Args, bases: &[Base]) -> Result<ExitCode> {
    let keeper = Keeper::new(args.seed, args.keep.as_ref())?;
    let mounter = Mounter::new(&args.basedirs)?;
    println!("KTAP version 1\n1..2");
    println!("# seed {}, images made of:", args.seed);
    for path in &args.images {
        println!("#     {}", path.display());
    }
    watchdog::start(Duration::from_secs(args.patience));

    let begin = Instant::now();
    let first = args.index.unwrap_or(0);
    let mut figures = Figures::new();
    let mut failures = 0;
    for index in first..first.saturating_add(args.count) {
        if begin.elapsed() > Duration::from_secs(args.seconds) || failures == FAILURES_MAX {
            break;
        }
        let mutant = mutant(bases, args.seed, index);
        keeper.begin(index)?;
        match one(&mounter, bases, &mutant, index) {
            Ok(seen) => figures.add(&mutant.kinds, seen.as_ref()),
            Err(error) => {
                failures += 1;
                println!(
                    "# image {index}, made of {}, changed: {}",
                    args.images[mutant.base].display(),
                    figures::names(&mutant.kinds)
                );
                println!("#     {error:#}");
                keeper.keep(index, &mutant.bytes)?;
            }
        }
    }
    figures.print();
    println!("# it took {} seconds", begin.elapsed().as_secs());

    let fits = failures == 0 && figures.tried() > 0;
    let not = |good| if good { "" } else { "not " };
    println!(
        "{}ok 1 every image is refused or gives the view that it has to",
        not(fits)
    );
    // Else the images are too bad to test anything, or too good.
    let useful =
        figures.mounted() * 2 > figures.tried() && figures.damaged() * 10 > figures.mounted();
    println!("{}ok 2 damage is met behind the mount", not(useful));
    Ok(if fits && useful {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Mounts an image, uses and unmounts it. Gives None if it is refused.
fn one(mounter: &Mounter, bases: &[Base], mutant: &Mutant, index: u64) -> Result<Option<Seen>> {
    let wanted = parser::open(&mutant.bytes);
    let mounted = mounter.mount(&mutant.bytes, index);
    let (image, mounted) = match (wanted, mounted) {
        (Ok(image), Ok(mounted)) => (image, mounted),
        (Err(_), Err(Errno::UCLEAN)) => return Ok(None),
        (wanted, mounted) => bail!(
            "mount gives {:?}, the parser {:?}",
            mounted.map(drop),
            wanted.map(drop)
        ),
    };
    let root = mounted.root().context("the root cannot be opened")?;
    perform(Operation::Statfs, || fstatfs(&root)).context("statfs")?;
    let expected = Expected {
        image,
        touched: bases[mutant.base].touched(&mutant.bytes),
        number: index as usize,
    };
    let seen = walk(root, &expected)?;
    mounted.unmount().context("unmount")?;
    Ok(Some(seen))
}
