// SPDX-License-Identifier: GPL-2.0

//! Making what is measured: an image with objects, in the guest, where there is
//! fs-verity.

use std::fs;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Random;

/// Where the small files are in the image.
pub const SMALL_DIR: &str = "small";

/// The large file.
pub const LARGE: &str = "large";

/// A program with many libraries, also in the image.
pub const PROGRAM: &str = "usr/bin/fio";

/// How many small files there are, and in how many directories.
const FILES: usize = 2000;
const DIRS: usize = 20;
const SMALL_SIZE: usize = 8192;
const LARGE_SIZE: usize = 64 << 20;

/// Fills an empty file system that has fs-verity.
pub fn disk(cfsctl: &Path, top: &Path) -> Result<()> {
    let tree = Path::new("/scratch/tree");
    let mut random = Random::new(1);
    for number in 0..FILES {
        let dir = tree
            .join(SMALL_DIR)
            .join(format!("dir-{:02}", number % DIRS));
        fs::create_dir_all(&dir)?;
        write(
            &dir.join(format!("file-{number:04}")),
            SMALL_SIZE,
            &mut random,
        )?;
    }
    write(&tree.join(LARGE), LARGE_SIZE, &mut random)?;

    copy_program(tree)?;
    // The same files, for those who read them without an image.
    run(Command::new("cp").arg("-a").args([tree, &top.join("tree")]))?;

    let objects = top.join("objects");
    let image = top.join("content.cfs");
    run(Command::new(cfsctl)
        .arg("mkcomposefs")
        .arg(format!("--digest-store={}", objects.display()))
        .args([tree, &image]))?;
    run(Command::new("fsverity").arg("enable").arg(&image))?;
    rustix::fs::sync();
    Ok(())
}

/// Writes a file that has the same content each time, and no two alike.
fn write(path: &Path, size: usize, random: &mut Random) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for _ in 0..size / 8 {
        file.write_all(&random.next().to_le_bytes())?;
    }
    file.flush()?;
    Ok(())
}

/// Copies a program with all libraries that it is linked with.
fn copy_program(tree: &Path) -> Result<()> {
    let program = format!("/{PROGRAM}");
    let said = Command::new("ldd").arg(&program).output().context("ldd")?;
    // "libc.so.6 => /lib/libc.so.6 (0x...)", and the loader without an arrow.
    let libraries = String::from_utf8(said.stdout)?;
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

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
