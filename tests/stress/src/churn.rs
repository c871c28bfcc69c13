// SPDX-License-Identifier: GPL-2.0

//! Mounting and unmounting of images that others use at the same time.

use std::os::fd::OwnedFd;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use fastrand::Rng;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::board::Desk;
use crate::board::Operation;
use crate::catalogue;
use crate::fixtures::Fixtures;
use crate::fixtures::Image;
use crate::mount;
use crate::mount::Mounted;
use crate::mount::Way;

/// Files of the images, small and large, with their sizes.
const FILES: [(&str, &str, u64); 4] = [
    ("special-v0", "sizes/64", 64),
    ("special-v0", "sizes/4097", 4097),
    ("matrix", "inline", 12),
    ("matrix", "file-07", 20_000),
];

/// Mounts what is mounted already, which gives the same super block, and what
/// nobody but this has mounted, whose super block may be going just then.
pub fn work(
    desk: &mut Desk<'_>,
    mut random: Rng,
    fixtures: &Fixtures,
    mounts: &[Mounted],
) -> Result<()> {
    let there = mounts.first().context("nothing is mounted")?;
    let there = rustix::fs::stat(there.path())?.st_dev;
    let shared = fixtures.image("special-v0")?;
    while desk.goes_on() {
        let lasting = random.bool();
        let image = if lasting {
            shared
        } else {
            fixtures.image("matrix")?
        };
        let way = random.choice(Way::ALL).unwrap_or(Way::Plain);
        let name = format!("churn-{:x}", random.u64(..));
        let attached = random.bool();
        desk.does(Operation::Mount, || {
            if attached {
                return attach(image, way, &name);
            }
            let root = mount::detached(image, way)?;
            let device = rustix::fs::fstat(&root)?.st_dev;
            if lasting && way == Way::Plain {
                ensure!(device == there, "another super block: {device}");
            }
            look(&root, image)
        });
    }
    Ok(())
}

/// As [`work`], while the module comes and goes: a mount may find no file
/// system of that name.
pub fn while_reloading(desk: &mut Desk<'_>, mut random: Rng, fixtures: &Fixtures) -> Result<()> {
    while desk.goes_on() {
        let name = random.choice(["special-v0", "matrix"]).unwrap_or("matrix");
        let image = fixtures.image(name)?;
        let way = random.choice(Way::ALL).unwrap_or(Way::Plain);
        desk.does(Operation::Mount, || match mount::detached(image, way) {
            Ok(root) => look(&root, image),
            Err(Errno::NODEV) => Ok(()),
            Err(error) => Err(error).context("mount"),
        });
    }
    Ok(())
}

/// Unmounts while a file is open, which works on.
fn attach(image: &Image, way: Way, name: &str) -> Result<()> {
    let mounted = Mounted::attach_as(image, way, name).context("mount")?;
    let root = rustix::fs::open(mounted.path(), OFlags::DIRECTORY, Mode::empty())?;
    mounted.detach().context("umount")?;
    look(&root, image)
}

/// Reads some of a mount, given its root.
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
