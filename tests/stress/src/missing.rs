// SPDX-License-Identifier: GPL-2.0

//! Moving objects away and back while files are read.
//!
//! A read returns the right content, or EIO. After all objects are back, it returns the
//! right content.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use fastrand::Rng;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::catalogue;
use crate::fixtures::Fixtures;
use crate::mount::Mounted;
use crate::round::Operation;
use crate::round::Task;

/// An image whose object directory no other mount of this test uses.
const IMAGE: &str = "matrix-sha512";

/// Suffix of a directory of objects that was moved away.
const SUFFIX: &str = ".gone";

/// A mount, and the subdirectories of its object directories.
pub struct Store {
    dirs: Vec<PathBuf>,
    files: Vec<(CString, Vec<u64>)>,
    _mounted: Mounted,
}

impl Store {
    /// Mounts the image and notes the content of its files.
    pub fn mount(fixtures: &Fixtures) -> Result<Self> {
        let image = fixtures.image(IMAGE)?;
        let mut dirs = Vec::new();
        for objects in &image.objects {
            for dir in fs::read_dir(objects)? {
                dirs.push(dir?.path());
            }
        }
        let mounted = Mounted::attach(image, "missing")?;
        Ok(Self {
            dirs,
            files: contents(&mounted)?,
            _mounted: mounted,
        })
    }

    /// Puts all objects back, and checks the content of all files.
    pub fn restore(&self) -> Result<()> {
        for dir in &self.dirs {
            let gone = gone(dir);
            if gone.exists() {
                fs::rename(gone, dir)?;
            }
        }
        // Files that could not be read before must be readable now, in the same mount.
        for (path, sums) in &self.files {
            let file = catalogue::open(path, OFlags::empty())?;
            let now = catalogue::sums(&file)
                .with_context(|| format!("{path:?}, with all objects back"))?;
            ensure!(
                now == *sums,
                "{path:?}, with all objects back: wrong content"
            );
        }
        Ok(())
    }
}

/// The checksums of all files of a mount.
fn contents(mounted: &Mounted) -> Result<Vec<(CString, Vec<u64>)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(mounted.path())? {
        let path = CString::new(file?.path().as_os_str().as_bytes())?;
        let file = catalogue::open(&path, OFlags::empty())?;
        let sums = catalogue::sums(&file).with_context(|| format!("{path:?}"))?;
        found.push((path, sums));
    }
    ensure!(!found.is_empty(), "{IMAGE} has no files");
    Ok(found)
}

/// Checks the content of all files in a new mount of the image.
pub fn check_new_mount(fixtures: &Fixtures) -> Result<()> {
    let store = Store::mount(fixtures)?;
    store.restore()
}

/// The path of a directory that was moved away.
fn gone(dir: &std::path::Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(SUFFIX);
    PathBuf::from(name)
}

/// Moves directories of objects away and back.
pub fn move_objects(task: &mut Task<'_>, mut random: Rng, store: &Store) -> Result<()> {
    while task.has_time() {
        let dir = random.choice(&store.dirs).context("no objects")?;
        task.perform(Operation::MoveObjects, || {
            let gone = gone(dir);
            match rustix::fs::rename(dir, &gone) {
                Ok(()) => Ok(()),
                Err(Errno::NOENT) => Ok(rustix::fs::rename(&gone, dir)?),
                Err(error) => Err(error).context("rename"),
            }
        });
    }
    Ok(())
}

/// Reads files whose objects may be missing.
pub fn read(task: &mut Task<'_>, mut random: Rng, store: &Store) -> Result<()> {
    while task.has_time() {
        let (path, sums) = random.choice(&store.files).context("no files")?;
        task.perform(Operation::ReadMissing, || {
            let file = catalogue::open(path, OFlags::empty());
            let file = file.with_context(|| format!("open {path:?}"))?;
            match catalogue::sums(&file) {
                Ok(now) => ensure!(now == *sums, "{path:?}: wrong content"),
                Err(Errno::IO) => {}
                Err(error) => return Err(error).with_context(|| format!("read {path:?}")),
            }
            Ok(())
        });
    }
    Ok(())
}
