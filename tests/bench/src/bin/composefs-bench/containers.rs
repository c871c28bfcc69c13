// SPDX-License-Identifier: GPL-2.0

//! The rows about containers: an image, an upper layer of their own, and a program.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::slice;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Plan;
use composefs_bench::Stack;

use crate::caches;
use crate::memory::Memory;
use crate::mounts::Mounted;
use crate::prepare::TRUE;
use crate::programs::chroot;
use crate::recipe::Lower;
use crate::recorder::Recorder;

/// Number of containers of one image.
pub const CONTAINERS: usize = 50;

/// Where their upper layers are: in a tmpfs. It has the xattrs without which overlayfs switches
/// metacopy off.
const SCRATCH: &str = "/tmp/containers";

/// A container, removed when dropped.
pub struct Container {
    mounted: Option<Mounted>,
    scratch: PathBuf,
}

impl Container {
    /// Mounts it.
    pub fn new(lower: &Lower<'_>, number: usize) -> Result<Self> {
        let scratch = Path::new(SCRATCH).join(number.to_string());
        fs::create_dir_all(&scratch)?;
        // A mount that fails leaves no directory behind.
        let mut container = Self {
            mounted: None,
            scratch,
        };
        container.mounted = Some(Mounted::container(lower, &container.scratch)?);
        Ok(container)
    }

    /// Its root.
    pub fn root(&self) -> Result<&Path> {
        let mounted = self.mounted.as_ref();
        Ok(mounted.context("a container that has ended")?.path())
    }

    /// Runs a program of the image, and one file is written.
    pub fn run(&self) -> Result<()> {
        let root = self.root()?;
        chroot(root, &[&format!("/{TRUE}")])?;
        Ok(fs::write(root.join("written"), "by the container")?)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.mounted = None;
        if let Err(error) = fs::remove_dir_all(&self.scratch) {
            eprintln!("cannot remove {}: {error}", self.scratch.display());
        }
    }
}

/// Starts containers one after the other, and then all at once.
pub fn starts(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let images = slice::from_ref(&plan.stored_content);
    let lower = &match stack {
        Stack::Composefs => Lower::Composefs(&plan.stored_content),
        Stack::Overlay => Lower::Images(images),
        Stack::Erofs => bail!("erofs has no content"),
        // The files that the image was made from.
        Stack::Ext4 => Lower::Directory(&plan.unpacked),
    };
    // One container runs all the time, so that the image is mounted and the program in memory.
    let first = Container::new(lower, CONTAINERS)?;
    first.run()?;
    recorder.time("50-starts", || {
        (0..CONTAINERS).try_for_each(|number| Container::new(lower, number)?.run())
    })?;
    caches::drop_names()?;
    caches::shrink_slabs()?;
    first.run()?;
    let before = Memory::now()?;
    let all: Vec<Container> = (0..CONTAINERS)
        .map(|number| Container::new(lower, number))
        .collect::<Result<_>>()?;
    all.iter().try_for_each(Container::run)?;
    let after = Memory::now()?;
    recorder.note("50-at-once", before.free.saturating_sub(after.free));
    Ok(())
}
