// SPDX-License-Identifier: GPL-2.0

//! Making the image and the objects that are measured. It runs in the guest, because
//! it needs a file system with fs-verity.

use std::fs;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Random;

use crate::programs::run;

/// Path of the directory with the small files in the image.
pub const SMALL_DIR: &str = "small";

/// Path of the large file in the image.
pub const LARGE: &str = "large";

/// Path of a program with many libraries, in the image and in the guest.
pub const PROGRAM: &str = "usr/bin/fio";

/// Path of a program that ends at once, in the image and in the guest.
pub const TRUE: &str = "usr/bin/true";

/// Path of Python in the image and in the guest.
pub const PYTHON: &str = "usr/bin/python3";

/// A program in Python that imports [`MODULES`] modules beside it, and those of Python that are
/// used most.
pub const IMPORTS: &str = "/imports/main.py";

/// Number of modules.
const MODULES: usize = 500;

/// Number of small files.
const FILES: usize = 2000;
/// Number of directories that they are in.
const DIRS: usize = 20;
const SMALL_SIZE: usize = 8192;
const LARGE_SIZE: usize = 64 << 20;

/// Fills the file system at `top`, which is empty and has fs-verity.
pub fn disk(cfsctl: &Path, top: &Path) -> Result<()> {
    let tree = Path::new("/scratch/tree");
    let mut random = Random::new(1);
    small_files(tree, &mut random)?;
    write(&tree.join(LARGE), LARGE_SIZE, &mut random)?;
    programs(tree, &[PROGRAM, PYTHON, TRUE])?;
    // ext4 reads the same files without an image.
    run(Command::new("cp").arg("-a").args([tree, &top.join("tree")]))?;

    let objects = top.join("objects");
    let image = top.join("content.cfs");
    run(Command::new(cfsctl)
        .arg("mkcomposefs")
        .arg(format!("--digest-store={}", objects.display()))
        .args([tree, &image]))?;
    enable_verity(&image)?;
    rustix::fs::sync();
    Ok(())
}

/// Enables fs-verity on a file.
pub fn enable_verity(file: &Path) -> Result<()> {
    run(Command::new("fsverity").arg("enable").arg(file))
}

/// Writes the small files.
pub fn small_files(tree: &Path, random: &mut Random) -> Result<()> {
    for number in 0..FILES {
        let dir = tree
            .join(SMALL_DIR)
            .join(format!("dir-{:02}", number % DIRS));
        fs::create_dir_all(&dir)?;
        write(&dir.join(format!("file-{number:04}")), SMALL_SIZE, random)?;
    }
    Ok(())
}

/// Copies programs of the guest, Python's modules, and those that [`IMPORTS`] imports.
pub fn programs(tree: &Path, programs: &[&str]) -> Result<()> {
    for program in programs {
        copy_program(tree, program)?;
    }
    copy_modules(tree)
}

/// Writes a file of pseudo-random bytes: no two files are equal.
fn write(path: &Path, size: usize, random: &mut Random) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for _ in 0..size / 8 {
        file.write_all(&random.next().to_le_bytes())?;
    }
    file.flush()?;
    Ok(())
}

/// Copies Python's own modules, and writes those that [`IMPORTS`] imports.
fn copy_modules(tree: &Path) -> Result<()> {
    let lib = tree.join("usr/lib");
    for entry in fs::read_dir("/usr/lib")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("python3.") {
            run(Command::new("cp").arg("-a").arg(entry.path()).arg(&lib))?;
        }
    }
    let main = tree.join(IMPORTS.trim_start_matches('/'));
    let dir = main.parent().unwrap_or(tree);
    fs::create_dir_all(dir)?;
    let mut text = format!("import sys; sys.path.insert(0, '{}')\n", "/imports");
    text += "import argparse, collections, hashlib, json, re, socket, subprocess\n";
    for number in 0..MODULES {
        let name = format!("module_{number:03}");
        fs::write(
            dir.join(format!("{name}.py")),
            format!("def number():\n    return {number}\n"),
        )?;
        text += &format!("import {name}\nassert {name}.number() == {number}\n");
    }
    fs::write(&main, text)?;
    // Read-only, as in an image: Python finds what it has compiled.
    run(Command::new("python3")
        .args(["-m", "compileall", "-q"])
        .arg(dir))
}

/// Copies a program and all libraries that it is linked with.
pub fn copy_program(tree: &Path, program: &str) -> Result<()> {
    let program = format!("/{program}");
    let ldd = Command::new("ldd").arg(&program).output().context("ldd")?;
    // "libc.so.6 => /lib/libc.so.6 (0x...)", and the loader without an arrow.
    let libraries = String::from_utf8(ldd.stdout)?;
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for file in libraries.chain([program.as_str()]) {
        let target = tree.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap_or(tree))?;
        fs::copy(file, target).with_context(|| file.to_owned())?;
    }
    Ok(())
}
