// SPDX-License-Identifier: GPL-2.0

//! Mounts hostile images, one after another, and compares each mount with what the
//! parser reads from the same image: the kernel must refuse the image, or show what the
//! parser shows. A warning of the kernel ends the guest; the file `current` in the
//! directory of --keep then has the seed and the number of the image.
//!
//! An image is identified by the images that it is made from, a seed and a number. It can
//! be made again, also on the host:
//!
//!     hostile --seed 1 --index 4711 --write bad.cfs IMAGE...

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
            bail!("--write takes exactly one --seed");
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

/// The images to change, in the order of the command line.
fn bases(args: &Args) -> Result<Vec<Base>> {
    let mut bases = Vec::new();
    for path in &args.images {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if parser::open(&bytes).is_err() {
            bail!("{} is not a valid composefs image", path.display());
        }
        bases.push(Base::new(bytes));
    }
    Ok(bases)
}
