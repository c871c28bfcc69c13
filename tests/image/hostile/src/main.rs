// SPDX-License-Identifier: GPL-2.0

//! Mounts hostile images, one after another, and uses all of each: whatever an
//! image holds, the kernel refuses it or gives a view that fits together, which
//! is the one that the parser gives here. A kernel that has a complaint ends
//! the guest; which image it was is in the file `current` of the directory
//! given with --keep.
//!
//! An image is named by the images that it is made of, a seed and its number:
//!
//!     hostile --seed 1 --index 4711 --write bad.cfs IMAGE...
//!
//! makes it again, on the host too.

mod args;
mod expected;
mod figures;
mod keep;
mod mount;
mod operation;
mod parser;
mod run;
mod view;
mod walk;
mod watchdog;
mod xattrs;

use std::fs;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use clap::Parser as _;
use composefs_image_mutate::Base;
use composefs_image_mutate::mutant;

use args::Args;

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let bases = bases(&args)?;
    if let (Some(index), Some(path)) = (args.index, &args.write) {
        let [seed] = args.seeds[..] else {
            bail!("one image is of one seed");
        };
        let mutant = mutant(&bases, seed, index);
        fs::write(path, &mutant.bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!(
            "{}: {}, changed: {}",
            path.display(),
            args.images[mutant.base].display(),
            figures::names(&mutant.kinds)
        );
        return Ok(ExitCode::SUCCESS);
    }
    run::run(&args, &bases)
}

/// The images to start from, in the order in which they were given.
fn bases(args: &Args) -> Result<Vec<Base>> {
    let mut bases = Vec::new();
    for path in &args.images {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if parser::open(&bytes).is_err() {
            bail!("{} is no composefs image to start from", path.display());
        }
        bases.push(Base::new(bytes));
    }
    Ok(bases)
}
