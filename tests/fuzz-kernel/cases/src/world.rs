// SPDX-License-Identifier: GPL-2.0

//! What all cases share: the seeds, their objects, and what the mounts of the seeds must show.

use std::cell::Cell;
use std::fs;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::MemfdFlags;
use rustix::fs::Mode;

use crate::case::Case;
use crate::case::hex;
use crate::reference;
use crate::reference::Tree;
use crate::seeds;
use crate::seeds::OBJECTS;
use crate::seeds::Seeds;
use crate::sys;

/// Where mounts are attached, and the upper directories of overlays: a tmpfs.
pub const MOUNTS: &str = "/run/fuzz-kernel";

/// Drops caches: 1 is content, 2 is inodes and dentries, 3 is both.
///
/// # Errors
///
/// When the kernel refuses it.
pub fn drop_caches(what: u32) -> Result<()> {
    // What was just used stays the first time, and the inode of a dentry goes after it.
    for _ in 0..3 {
        fs::write("/proc/sys/vm/drop_caches", what.to_string()).context("cannot drop caches")?;
    }
    Ok(())
}

/// What all cases share.
pub struct World {
    /// The good images.
    pub seeds: Seeds,
    /// What each of them shows.
    pub trees: Vec<Tree>,
    /// A directory on a file system with fs-verity.
    pub dir: PathBuf,
    /// An object directory without objects.
    pub empty: PathBuf,
}

/// A file that holds the image of a case.
pub struct ImageFile {
    /// The file, open for writing unless it has fs-verity.
    pub file: File,
    /// A path that leads to it.
    pub path: PathBuf,
    /// Its fs-verity digest, if it has one.
    pub digest: Option<String>,
    /// Whether it was changed after it was written.
    pub dirty: Cell<bool>,
}

impl World {
    /// Makes the seeds below a directory, and mounts them once.
    ///
    /// # Errors
    ///
    /// When that is impossible.
    pub fn make(dir: &Path) -> Result<Self> {
        // 4 keeps the kernel from logging it each time.
        drop_caches(4)?;
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        let empty = dir.join("empty");
        for path in [&empty, &dir.join("away")] {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let seeds = Seeds::make(dir)?;
        let mounts = Path::new(MOUNTS);
        let mut trees = Vec::new();
        for name in seeds::NAMES {
            let image = dir.join(format!("{name}.cfs"));
            let tree = reference::read(
                &image,
                &seeds.store,
                &mounts.join("erofs"),
                &mounts.join("overlay"),
            );
            trees.push(tree.with_context(|| format!("the reference of {name}"))?);
        }
        Ok(Self {
            seeds,
            trees,
            dir: dir.to_owned(),
            empty,
        })
    }

    /// Writes the image of a case: `memfd`, `file`, or with fs-verity, `verity`.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn image_file(&self, case: &Case, kind: &str) -> Result<ImageFile> {
        let image = case.image(self.seeds.image(case.seed));
        if kind == "memfd" {
            let file = File::from(rustix::fs::memfd_create("image", MemfdFlags::CLOEXEC)?);
            std::os::unix::fs::FileExt::write_all_at(&file, &image, 0)?;
            let path = reference::magic(file.as_fd());
            return Ok(ImageFile {
                path: PathBuf::from(path.into_string()?),
                file,
                digest: None,
                dirty: Cell::new(false),
            });
        }
        let path = self.dir.join(format!("image-{kind}"));
        fs::write(&path, &image)?;
        let verity = kind == "verity";
        let file = File::options().read(true).write(!verity).open(&path)?;
        let mut digest = None;
        // An empty file can have fs-verity, too.
        if verity {
            sys::enable_verity(file.as_fd()).context("fs-verity of the image")?;
            digest = Some(hex(&sys::measure_verity(file.as_fd())?));
        }
        Ok(ImageFile {
            file,
            path,
            digest,
            dirty: Cell::new(false),
        })
    }

    /// Removes the images that cases have left.
    pub fn remove_images(&self) {
        for kind in ["file", "verity"] {
            let _ = fs::remove_file(self.dir.join(format!("image-{kind}")));
        }
    }

    fn object(&self, number: usize) -> Option<PathBuf> {
        Some(self.seeds.store.join(self.seeds.objects.get(number)?))
    }

    fn away(&self, number: usize) -> PathBuf {
        self.dir.join("away").join(number.to_string())
    }

    /// Does something to an object, which is not where it was then.
    ///
    /// # Errors
    ///
    /// When that is impossible.
    pub fn harm(&self, number: usize, what: &str) -> Result<()> {
        let Some(object) = self.object(number) else {
            return Ok(());
        };
        let away = self.away(number);
        if away.exists() {
            self.restore(number)?;
        }
        if what == "back" {
            return Ok(());
        }
        fs::rename(&object, &away)?;
        let mut content = seeds::content(number);
        match what {
            "other" | "forged" => content.reverse(),
            "longer" => content.push(0),
            "unsigned" => {}
            "symlink" => return Ok(symlink(&away, &object)?),
            "directory" => return Ok(fs::create_dir(&object)?),
            "fifo" => {
                let mode = Mode::from_raw_mode(0o644);
                let kind = rustix::fs::FileType::Fifo;
                return Ok(rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &object,
                    kind,
                    mode,
                    0,
                )?);
            }
            "unlink" => {
                // A good one takes its place: a copy. The first one is gone.
                fs::remove_file(&away)?;
                fs::write(&away, &content)?;
                let copy = File::open(&away)?;
                return Ok(sys::enable_verity(copy.as_fd())?);
            }
            _ => return Ok(()),
        }
        fs::write(&object, &content)?;
        if !matches!(what, "unsigned" | "forged") {
            sys::enable_verity(File::open(&object)?.as_fd())?;
        }
        Ok(())
    }

    /// Takes back what was done to an object.
    ///
    /// # Errors
    ///
    /// When that is impossible.
    pub fn restore(&self, number: usize) -> Result<()> {
        let (Some(object), away) = (self.object(number), self.away(number)) else {
            return Ok(());
        };
        if !away.exists() {
            return Ok(());
        }
        if fs::symlink_metadata(&object).is_ok_and(|found| found.is_dir()) {
            fs::remove_dir(&object)?;
        }
        Ok(fs::rename(&away, &object)?)
    }

    /// Takes back what was done to all objects.
    ///
    /// # Errors
    ///
    /// When that is impossible.
    pub fn restore_all(&self) -> Result<()> {
        (0..OBJECTS.len()).try_for_each(|number| self.restore(number))
    }
}
