// SPDX-License-Identifier: GPL-2.0

//! Images without objects, made from descriptions in the format of
//! composefs-dump(5).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::HUNDRED_THOUSAND;
use composefs_bench::Random;
use composefs_bench::TEN_THOUSAND;

use crate::cache::Key;
use crate::context::Context;
use crate::machine::Arch;
use crate::progress::Step;
use crate::tools;

/// Part of the cache's key. To be changed when the images change.
const VERSION: &str = "1";

/// Number of files in each directory of [`SHAPE`].
const FILES: usize = 1000;

/// The name of the image with large directories.
pub const WIDE: &str = "wide";

/// The name of the image with files that are in the image.
pub const INLINE: &str = "inline";

/// Number of directories in it.
const INLINE_DIRECTORIES: usize = 800;

/// The names of the images that differ in size only.
pub const SHAPE: [&str; 2] = ["shape-10k", "shape-1m"];

/// The directory with [`WIDE`], made unless the cache has it.
///
/// # Errors
///
/// When cfsctl cannot be built or fails.
pub fn wide(context: &Context) -> Result<PathBuf> {
    make(context, WIDE, || {
        let mut dump = Dump::default();
        dump.directory("/", 2);
        for (name, files) in [(HUNDRED_THOUSAND, 100_000), (TEN_THOUSAND, 10_000)] {
            dump.directory(&format!("/{name}"), 0);
            dump.files(&format!("/{name}"), files);
        }
        vec![(WIDE, dump.text)]
    })
}

/// The directory with those of [`SHAPE`], made unless the cache has it.
///
/// # Errors
///
/// When cfsctl cannot be built or fails.
pub fn shape(context: &Context) -> Result<PathBuf> {
    make(context, "shape", || {
        let trees = SHAPE.into_iter().zip([10, 1000]);
        let describe = |(name, dirs)| {
            let mut dump = Dump::default();
            dump.directory("/", dirs);
            for number in 0..dirs {
                let dir = format!("/dir-{number:04}");
                dump.directory(&dir, 0);
                dump.files(&dir, FILES);
            }
            (name, dump.text)
        };
        trees.map(describe).collect()
    })
}

/// The directory with [`INLINE`], made unless the cache has it.
///
/// # Errors
///
/// When cfsctl cannot be built or fails.
pub fn inline(context: &Context) -> Result<PathBuf> {
    make(context, INLINE, || {
        let mut dump = Dump::default();
        dump.directory("/", INLINE_DIRECTORIES);
        for number in 0..INLINE_DIRECTORIES {
            let dir = format!("/dir-{number:03}");
            dump.directory(&dir, 0);
            // Every second one only makes the image larger than one folio of its page cache.
            dump.inline_files(&dir, if number % 2 == 0 { 8 } else { 32 });
        }
        vec![(INLINE, dump.text)]
    })
}

/// Makes images. `describe` returns their names and descriptions.
fn make(
    context: &Context,
    kind: &str,
    describe: impl FnOnce() -> Vec<(&'static str, String)>,
) -> Result<PathBuf> {
    let cfsctl = tools::cfsctl(context, Arch::default())?;
    let key = Key::default()
        .with("cfsctl", cfsctl.as_os_str().as_encoded_bytes())
        .with("kind", kind)
        .with("version", VERSION);
    let entry = context.cache.entry("bench-images", &key.finish());
    if entry.is_complete() {
        return Ok(entry.path().to_path_buf());
    }
    let _lock = context.cache.lock("bench-images")?;
    if entry.is_complete() {
        return Ok(entry.path().to_path_buf());
    }
    entry.start_over()?;
    let log = context.cache.log("bench-images");
    let step = Step::begin("making images to measure", &log)?;
    for (name, text) in describe() {
        image(&step, &cfsctl, entry.path(), name, &text)?;
    }
    entry.complete()?;
    step.done();
    Ok(entry.path().to_path_buf())
}

fn image(step: &Step, cfsctl: &Path, dir: &Path, name: &str, text: &str) -> Result<()> {
    let description = dir.join("description");
    fs::write(&description, text).with_context(|| description.display().to_string())?;
    step.run(
        Command::new(cfsctl)
            .args(["mkcomposefs", "--from-file"])
            .args([&description, &dir.join(format!("{name}.cfs"))]),
    )?;
    fs::remove_file(&description)?;
    Ok(())
}

/// A description under construction.
struct Dump {
    text: String,
    random: Random,
}

impl Default for Dump {
    fn default() -> Self {
        Self {
            text: String::new(),
            random: Random::new(4),
        }
    }
}

impl Dump {
    fn directory(&mut self, path: &str, subdirectories: usize) {
        let links = subdirectories + 2;
        let _ = writeln!(self.text, "{path} 4096 40755 {links} 0 0 0 0.0 - - -");
    }

    /// Adds files whose content is in the image.
    fn inline_files(&mut self, dir: &str, count: usize) {
        for number in 0..count {
            let content = format!("{:016x}", self.random.next());
            let _ = writeln!(
                self.text,
                "{dir}/file-{number} {} 100644 1 0 0 0 0.0 - {content} -",
                content.len()
            );
        }
    }

    /// Adds files whose objects do not exist.
    fn files(&mut self, dir: &str, count: usize) {
        for number in 0..count {
            let digest: String = (0..4)
                .map(|_| format!("{:016x}", self.random.next()))
                .collect();
            let (first, rest) = digest.split_at(2);
            let _ = writeln!(
                self.text,
                "{dir}/file-{number:06} 5000 100644 1 0 0 0 0.0 {first}/{rest} - {digest}"
            );
        }
    }
}
