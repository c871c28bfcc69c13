// SPDX-License-Identifier: GPL-2.0

//! Mounting an image with each of the stacks.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Image;
use composefs_bench::Stack;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::mount::UnmountFlags;
use rustix::mount::unmount;

use crate::recipe::Lower;
use crate::recipe::Recipe;

/// Whether the digests of objects are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verity {
    /// It does not matter, because no content is read.
    Off,
    /// They are not verified, because the objects' file system has no fs-verity. Option `noverity`
    /// of composefs.
    Unverified,
    /// They are verified, and required: `verity`, or `verity=require` of overlayfs.
    Required,
}

/// A mounted image, unmounted when dropped.
pub struct Mounted {
    root: Option<OwnedFd>,
    points: Vec<PathBuf>,
}

impl Mounted {
    /// Mounts an image.
    pub fn new(stack: Stack, image: &Image, verity: Verity) -> Result<Self> {
        let mut mounted = Self::made(&Recipe::new(stack, image, verity, next_name)?)?;
        // The objects are read where they are: nothing is mounted, and nothing calls `path()`.
        let top = mounted.points.last().unwrap_or(&image.objects);
        mounted.root = Some(open_dir(top)?);
        Ok(mounted)
    }

    /// Mounts the root of a container: with an upper layer, which is in `scratch`, a directory that
    /// is made.
    pub fn container(lower: &Lower<'_>, scratch: &Path) -> Result<Self> {
        Self::made(&Recipe::container(lower, scratch, next_name)?)
    }

    /// The root directory, to look names up in.
    pub fn root(&self) -> &OwnedFd {
        self.root.as_ref().expect("kept until dropped")
    }

    /// Path of the root directory.
    pub fn path(&self) -> &Path {
        self.points.last().map_or(Path::new("/"), PathBuf::as_path)
    }

    fn made(recipe: &Recipe) -> Result<Self> {
        let mut mounted = Self {
            root: None,
            points: Vec::new(),
        };
        for step in &recipe.steps {
            step.mount()?;
            mounted.points.push(step.point.clone());
        }
        Ok(mounted)
    }
}

/// Each mount has a mount point of its own: several images may be mounted at once.
fn next_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed).to_string()
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.root = None;
        for point in self.points.iter().rev() {
            let unmounted = unmount(point, UnmountFlags::empty());
            if let Err(error) = unmounted
                .map_err(Into::into)
                .and_then(|()| fs::remove_dir(point))
            {
                eprintln!(
                    "composefs-bench: cannot unmount and remove {}: {error}",
                    point.display()
                );
            }
        }
    }
}

/// Opens a directory to look names up in.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).with_context(|| path.display().to_string())
}
