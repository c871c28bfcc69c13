// SPDX-License-Identifier: GPL-2.0

//! Mounting and unmounting images that other threads use at the same time.

use std::os::fd::OwnedFd;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use fastrand::Rng;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::catalogue;
use crate::fixtures::Fixtures;
use crate::fixtures::Image;
use crate::mount;
use crate::mount::Mounted;
use crate::mount::Way;
use crate::round::Operation;
use crate::round::Task;

/// Image, path and size of some files, small and large.
const FILES: [(&str, &str, u64); 4] = [
    ("special-v0", "sizes/64", 64),
    ("special-v0", "sizes/4097", 4097),
    ("matrix", "inline", 12),
    ("matrix", "file-07", 20_000),
];

/// Mounts either of two images. The first one stays mounted elsewhere, so that the
/// mount gets the same super block. The second one is mounted only here, so that its
/// super block may be shutting down at that moment.
pub fn work(
    task: &mut Task<'_>,
    mut random: Rng,
    fixtures: &Fixtures,
    mounts: &[Mounted],
) -> Result<()> {
    let there = mounts.first().context("nothing is mounted")?;
    let there = rustix::fs::stat(there.path())?.st_dev;
    let shared = fixtures.image("special-v0")?;
    while task.has_time() {
        let lasting = random.bool();
        let image = if lasting {
            shared
        } else {
            fixtures.image("matrix")?
        };
        let way = random.choice(Way::ALL).unwrap_or(Way::Plain);
        let name = format!("churn-{:x}", random.u64(..));
        let attached = random.bool();
        task.perform(Operation::Mount, || {
            if attached {
                return attach(image, way, &name);
            }
            let root = mount::detached(image, way)?;
            let device = rustix::fs::fstat(&root)?.st_dev;
            if lasting && way == Way::Plain {
                ensure!(
                    device == there,
                    "mounting again made another super block: {device}"
                );
            }
            look(&root, image)
        });
    }
    Ok(())
}

/// Mounts images while the module is unloaded and loaded. A mount may find no file
/// system type of this name.
pub fn while_reloading(task: &mut Task<'_>, mut random: Rng, fixtures: &Fixtures) -> Result<()> {
    while task.has_time() {
        let name = random.choice(["special-v0", "matrix"]).unwrap_or("matrix");
        let image = fixtures.image(name)?;
        let way = random.choice(Way::ALL).unwrap_or(Way::Plain);
        task.perform(Operation::Mount, || match mount::detached(image, way) {
            Ok(root) => look(&root, image),
            Err(Errno::NODEV) => Ok(()),
            Err(error) => Err(error).context("mount"),
        });
    }
    Ok(())
}

/// Mounts an image at a path, and uses its root directory after umount2(2) with
/// MNT_DETACH.
fn attach(image: &Image, way: Way, name: &str) -> Result<()> {
    let mounted = Mounted::attach_as(image, way, name).context("mount")?;
    let root = rustix::fs::open(mounted.path(), OFlags::DIRECTORY, Mode::empty())?;
    mounted.detach().context("umount")?;
    look(&root, image)
}

/// Reads some files of a mount, given its root.
fn look(root: &OwnedFd, image: &Image) -> Result<()> {
    for (_, path, size) in FILES.iter().filter(|(name, _, _)| *name == image.name) {
        let file = rustix::fs::openat(root, *path, OFlags::RDONLY, Mode::empty());
        let file = file.with_context(|| format!("open {path}"))?;
        let size = usize::try_from(*size)?;
        let mut room = vec![0; size + 1];
        let len = catalogue::read_at(&file, &mut room, 0);
        let len = len.with_context(|| format!("read {path}"))?;
        ensure!(len == size, "{path}: {len} bytes");
    }
    Ok(())
}
