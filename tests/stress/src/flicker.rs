// SPDX-License-Identifier: GPL-2.0

//! Objects that vanish and come back while files are read.
//!
//! A read gives what the file holds, or EIO; when all is back, what it holds.

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

use crate::board::Desk;
use crate::board::Operation;
use crate::catalogue;
use crate::fixtures::Fixtures;
use crate::mount::Mounted;

/// An image whose object directory no other mount here has.
const IMAGE: &str = "matrix-sha512";

/// Added to the name of a directory of objects that has vanished.
const GONE: &str = ".gone";

/// A mount, and the directories that hold its objects and others.
pub struct Store {
    dirs: Vec<PathBuf>,
    files: Vec<(CString, Vec<u64>)>,
    _mounted: Mounted,
}

impl Store {
    /// Mounts the image and notes what its files hold.
    pub fn take(fixtures: &Fixtures) -> Result<Self> {
        let image = fixtures.image(IMAGE)?;
        let mut dirs = Vec::new();
        for objects in &image.objects {
            for dir in fs::read_dir(objects)? {
                dirs.push(dir?.path());
            }
        }
        let mounted = Mounted::attach(image, "flicker")?;
        Ok(Self {
            dirs,
            files: contents(&mounted)?,
            _mounted: mounted,
        })
    }

    /// Puts all objects back.
    pub fn restore(&self) -> Result<()> {
        for dir in &self.dirs {
            let gone = gone(dir);
            if gone.exists() {
                fs::rename(gone, dir)?;
            }
        }
        // Also files that could not be read are right now, without a new mount.
        for (path, sums) in &self.files {
            let file = catalogue::open(path, OFlags::empty())?;
            let now = catalogue::sums(&file).with_context(|| format!("{path:?}, then"))?;
            ensure!(now == *sums, "{path:?}, then: another content");
        }
        Ok(())
    }
}

/// The sums of all files of a mount.
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

/// Checks that a new mount of the image has everything.
pub fn settled(fixtures: &Fixtures) -> Result<()> {
    let store = Store::take(fixtures)?;
    store.restore()
}

fn gone(dir: &std::path::Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(GONE);
    PathBuf::from(name)
}

/// Moves directories of objects away and back.
pub fn move_objects(desk: &mut Desk<'_>, mut random: Rng, store: &Store) -> Result<()> {
    while desk.goes_on() {
        let dir = random.choice(&store.dirs).context("no objects")?;
        desk.does(Operation::Move, || {
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

/// Reads files whose objects may be gone.
pub fn read(desk: &mut Desk<'_>, mut random: Rng, store: &Store) -> Result<()> {
    while desk.goes_on() {
        let (path, sums) = random.choice(&store.files).context("no files")?;
        desk.does(Operation::Flicker, || {
            let file = catalogue::open(path, OFlags::empty());
            let file = file.with_context(|| format!("open {path:?}"))?;
            match catalogue::sums(&file) {
                Ok(now) => ensure!(now == *sums, "{path:?}: another content"),
                Err(Errno::IO) => {}
                Err(error) => return Err(error).with_context(|| format!("read {path:?}")),
            }
            Ok(())
        });
    }
    Ok(())
}
