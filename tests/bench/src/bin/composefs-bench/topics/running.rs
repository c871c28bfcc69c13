// SPDX-License-Identifier: GPL-2.0

//! Containers that run, by the way in which the files of an image come to them.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Image;
use composefs_bench::columns::Way;
use rustix::mount::UnmountFlags;
use rustix::mount::unmount;

use crate::containers::Container;
use crate::recipe::Lower;

/// What all containers are made from.
pub struct Images {
    /// The image of all files, and its objects.
    pub whole: Image,
    /// The images of the layers, the uppermost first, with the same objects.
    pub layers: Vec<Image>,
    /// An erofs of all files, with their content and digests.
    pub erofs: PathBuf,
    /// The files.
    pub tree: PathBuf,
    /// The program that serves an image by FUSE.
    pub fuse: PathBuf,
}

/// A container that runs, removed when dropped.
pub struct Running {
    // Dropped first: it is above what the server serves.
    container: Container,
    _server: Option<Server>,
}

impl Running {
    /// Mounts it.
    pub fn new(images: &Images, way: Way, number: usize) -> Result<Self> {
        let mut server = None;
        let lower = match way {
            Way::Composefs => Lower::Composefs(&images.whole),
            Way::Overlay => Lower::Images(std::slice::from_ref(&images.whole)),
            Way::Layers => Lower::Images(&images.layers),
            Way::Share => Lower::Erofs {
                file: &images.erofs,
                domain: "bench",
            },
            Way::Fuse => {
                let served = server.insert(Server::new(images, number)?);
                Lower::Directory(&served.point)
            }
            Way::Unpacked => Lower::Directory(&images.tree),
        };
        Ok(Self {
            container: Container::new(&lower, number)?,
            _server: server,
        })
    }

    /// Its root.
    pub fn root(&self) -> Result<&Path> {
        self.container.root()
    }

    /// Runs a program of the image, and one file is written.
    pub fn run(&self) -> Result<()> {
        self.container.run()
    }
}

/// A program that serves an image, unmounted when dropped.
struct Server {
    child: Child,
    point: PathBuf,
}

impl Server {
    fn new(images: &Images, number: usize) -> Result<Self> {
        let point = Path::new("/run/bench/served").join(number.to_string());
        fs::create_dir_all(&point)?;
        let mut child = Command::new(&images.fuse)
            .args([&images.whole.path, &images.whole.objects, &point])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| images.fuse.display().to_string())?;
        let ready = child
            .stdout
            .take()
            .context("no output")?
            .read_exact(&mut [0]);
        // A server that fails has nothing mounted.
        if ready.is_err() {
            let status = child.wait()?;
            bail!("{} serves no image: {status}", images.fuse.display());
        }
        Ok(Self { child, point })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.point, UnmountFlags::empty()) {
            eprintln!("cannot unmount {}: {error}", self.point.display());
            // The server ends when the last user of its mount has gone.
            let _ = unmount(&self.point, UnmountFlags::DETACH);
        }
        let ended = self.child.wait().map(|_| ());
        if let Err(error) = ended.and_then(|()| fs::remove_dir(&self.point)) {
            eprintln!("cannot end the server of {}: {error}", self.point.display());
        }
    }
}
