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

    let objects = top.join("objects");
    let image = top.join("blobs.cfs");
    let status = Command::new(cfsctl)
        .arg("mkcomposefs")
        .arg(format!("--digest-store={}", objects.display()))
        .args([tree, &image])
        .status()
        .with_context(|| cfsctl.display().to_string())?;
    if !status.success() {
        bail!("{} mkcomposefs: {status}", cfsctl.display());
    }
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
