// SPDX-License-Identifier: GPL-2.0

//! How an image is mounted with a stack: the file systems that are mounted for it.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Image;
use composefs_bench::Stack;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::fsconfig_create;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsmount;
use rustix::mount::fsopen;
use rustix::mount::move_mount;
use rustix::mount::unmount;

use crate::mounts::Verity;

/// Directory of the mount points.
const TOP: &str = "/run/bench/mnt";

/// The file systems to mount, one after the other.
pub struct Recipe {
    /// Them.
    pub steps: Vec<Step>,
}

/// Options of a file system. One with an empty value is a flag.
type Options = Vec<(&'static str, String)>;

/// A file system to mount.
pub struct Step {
    kind: &'static str,
    options: Options,
    /// Where it is mounted.
    pub point: PathBuf,
}

/// What is below the upper layer of a container.
#[derive(Clone, Copy)]
pub enum Lower<'a> {
    /// An image, mounted by composefs.
    Composefs(&'a Image),
    /// Images, mounted as erofs, the uppermost first. They have one object directory.
    Images(&'a [Image]),
    /// An erofs with content, whose page cache all mounts of this domain share.
    Erofs {
        /// Its file.
        file: &'a Path,
        /// The name of the domain.
        domain: &'a str,
    },
    /// Files that are there.
    Directory(&'a Path),
}

impl Recipe {
    /// Reads what the image says, and makes mount points. `name` is asked for the name of each.
    pub fn new(
        stack: Stack,
        image: &Image,
        verity: Verity,
        mut name: impl FnMut() -> String,
    ) -> Result<Self> {
        let mut recipe = Self { steps: Vec::new() };
        let lower = recipe.image(stack, image, verity, &mut name)?;
        if stack == Stack::Overlay {
            let mut options = overlay(&image.objects, vec![lower], verity)?;
            options.push(("ro", String::new()));
            recipe.add("overlay", options, &mut name)?;
        }
        Ok(recipe)
    }

    /// As [`Self::new`], for the root of a container, which has an upper layer in `scratch`, a
    /// directory that is made. Images that are mounted as erofs need no overlayfs besides that of
    /// the container.
    pub fn container(
        lower: &Lower<'_>,
        scratch: &Path,
        mut name: impl FnMut() -> String,
    ) -> Result<Self> {
        let mut recipe = Self { steps: Vec::new() };
        let mut options = match *lower {
            Lower::Composefs(image) => {
                let stack = Stack::Composefs;
                above(recipe.image(stack, image, Verity::Required, &mut name)?)
            }
            Lower::Images(images) => {
                let mut layers = Vec::new();
                let mut objects = None;
                for image in images {
                    let stack = Stack::Overlay;
                    layers.push(recipe.image(stack, image, Verity::Required, &mut name)?);
                    objects = Some(&image.objects);
                }
                overlay(objects.context("no layer")?, layers, Verity::Required)?
            }
            Lower::Erofs { file, domain } => {
                let options = vec![
                    ("source", text(file)?),
                    ("ro", String::new()),
                    ("noacl", String::new()),
                    ("domain_id", domain.to_owned()),
                    ("inode_share", String::new()),
                ];
                above(recipe.add("erofs", options, &mut name)?)
            }
            Lower::Directory(dir) => above(text(dir)?),
        };
        for (key, dir) in [("upperdir", "upper"), ("workdir", "work")] {
            let dir = scratch.join(dir);
            fs::create_dir_all(&dir)?;
            options.push((key, text(&dir)?));
        }
        recipe.add("overlay", options, &mut name)?;
        Ok(recipe)
    }

    /// Adds what the image itself is mounted as. Returns where.
    fn image(
        &mut self,
        stack: Stack,
        image: &Image,
        verity: Verity,
        name: impl FnMut() -> String,
    ) -> Result<String> {
        let mut options = vec![("source", text(&image.path)?)];
        match stack {
            Stack::Composefs => {
                options.push(("basedir", text(&image.objects)?));
                match verity {
                    Verity::Required => options.push(("verity", String::new())),
                    Verity::Unverified => options.push(("noverity", String::new())),
                    Verity::Off => {}
                }
                self.add("composefs", options, name)
            }
            Stack::Erofs | Stack::Overlay => {
                options.push(("ro", String::new()));
                // libcomposefs does so for an image that has no ACLs.
                if !has_acl(&image.path)? {
                    options.push(("noacl", String::new()));
                }
                self.add("erofs", options, name)
            }
            Stack::Ext4 => text(&image.objects),
        }
    }

    fn add(
        &mut self,
        kind: &'static str,
        options: Options,
        mut name: impl FnMut() -> String,
    ) -> Result<String> {
        let point = Path::new(TOP).join(name());
        fs::create_dir_all(&point)?;
        let path = text(&point)?;
        self.steps.push(Step {
            kind,
            options,
            point,
        });
        Ok(path)
    }

    /// Mounts all of them.
    pub fn mount(&self) -> Result<()> {
        self.steps.iter().try_for_each(Step::mount)
    }

    /// Unmounts all of them.
    pub fn unmount(&self) -> Result<()> {
        for step in self.steps.iter().rev() {
            unmount(&step.point, UnmountFlags::empty())
                .with_context(|| format!("cannot unmount {}", step.point.display()))?;
        }
        Ok(())
    }
}

/// Options of overlayfs above a directory.
fn above(lower: String) -> Options {
    vec![("source", "container".to_owned()), ("lowerdir+", lower)]
}

/// Options of overlayfs above images that are mounted as erofs, the uppermost first.
fn overlay(objects: &Path, layers: Vec<String>, verity: Verity) -> Result<Options> {
    let mut options = vec![
        ("source", "composefs".to_owned()),
        ("metacopy", "on".to_owned()),
        ("redirect_dir", "on".to_owned()),
    ];
    if verity == Verity::Required {
        options.push(("verity", "require".to_owned()));
    }
    options.extend(layers.into_iter().map(|layer| ("lowerdir+", layer)));
    options.push(("datadir+", text(objects)?));
    Ok(options)
}

impl Step {
    /// Mounts it.
    pub fn mount(&self) -> Result<()> {
        let context = fsopen(self.kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        let configured = self
            .options
            .iter()
            .try_for_each(|(key, value)| match value.as_str() {
                "" => fsconfig_set_flag(&context, *key),
                value => fsconfig_set_string(&context, *key, value),
            })
            .and_then(|()| fsconfig_create(&context));
        if let Err(error) = configured {
            bail!(
                "cannot mount {} with {:?}: {error} ({})",
                self.kind,
                self.options,
                messages(context)
            );
        }
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let attributes = match self.options.iter().any(|(key, _)| *key == "upperdir") {
            true => MountAttrFlags::empty(),
            false => MountAttrFlags::MOUNT_ATTR_RDONLY,
        };
        let mount = fsmount(&context, flags, attributes)?;
        let from_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(&mount, "", CWD, &self.point, from_fd)?)
    }
}

/// The messages of an fs context.
fn messages(context: OwnedFd) -> String {
    let mut messages = Vec::new();
    let mut file = File::from(context);
    let mut buffer = [0; 512];
    while let Ok(length) = file.read(&mut buffer) {
        messages.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    messages.join("; ")
}

/// Whether the header of a composefs image says that it has ACLs.
fn has_acl(image: &Path) -> Result<bool> {
    let mut header = [0; 16];
    File::open(image)
        .and_then(|mut file| file.read_exact(&mut header))
        .with_context(|| image.display().to_string())?;
    Ok(header[8] & 1 != 0)
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().ok_or(Errno::ILSEQ)?.to_owned())
}
