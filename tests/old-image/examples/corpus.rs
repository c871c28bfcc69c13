// SPDX-License-Identifier: GPL-2.0

//! Writes the images that fuzzing begins with.
//!
//!     cargo run --package composefs-old-image-tests --example corpus -- DIR

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use composefs_old_image_tests::samples;
use composefs_old_image_tests::writer::write;

fn main() -> Result<(), Box<dyn Error>> {
    let directory: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: corpus DIR")?
        .into();
    fs::create_dir_all(&directory)?;
    for (name, tree) in [
        ("tiny", samples::tiny()),
        ("small", samples::small()),
        ("wide", samples::wide()),
    ] {
        fs::write(directory.join(name), write(&tree).bytes)?;
    }
    Ok(())
}
