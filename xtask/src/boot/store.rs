// SPDX-License-Identifier: GPL-2.0

//! The disk with the store: the images, their objects, and what is written while they run.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use super::args::Image;
use super::args::StoreType;
use super::system;
use super::tree::SIZE;
use super::tree::Tree;
use crate::cache::Key;
use crate::context::Context;
use crate::guest_disk;
use crate::guest_disk::Recipe;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::vm::Disk;

/// The program that fills the disk.
const PROGRAM: &str = "make-boot-store";

/// The program that adds the image with inline files.
pub const STORE: &str = "composefs-store";

/// What the store has of an image.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The image's digest, in hex.
    pub digest: String,
    /// How many objects came into the store with it.
    pub new_objects: u64,
}

/// The disk.
#[derive(Clone, Debug)]
pub struct Store {
    /// The disk image.
    pub disk: PathBuf,
    /// The directory with what scripts/make-boot-store says about it.
    facts: PathBuf,
}

impl Store {
    /// Makes the disk unless the cache has it, with images of the tree and of its update.
    ///
    /// # Errors
    ///
    /// When a tool cannot be built or the guest fails.
    pub fn make(
        context: &Context,
        flavor: Flavor,
        tree: &Tree,
        file_system: StoreType,
    ) -> Result<Self> {
        let scripts = context.repo.join("scripts");
        let file_system = file_system.name();
        let disk = guest_disk::make(
            context,
            flavor,
            Recipe {
                kind: "boot-store",
                about: "making the store to boot from, in the guest",
                size: SIZE,
                command: format!(
                    "sh /mnt/scripts/{PROGRAM} {file_system} \"$CFSCTL\" /mnt/programs/{STORE} \
                     \"$DISK\" /dev/vdd /mnt/system/{} \"$FACTS\"",
                    system::UPDATE
                ),
                cfsctl: true,
                disks: vec![Disk {
                    file: tree.disk.clone(),
                    keep: false,
                }],
                mounts: vec![
                    ("scripts".to_owned(), scripts.clone()),
                    ("system".to_owned(), tree.system.dir.clone()),
                    ("programs".to_owned(), guest_program::build(context, STORE)?),
                ],
                timeout: Duration::from_secs(3600),
                key: Key::default()
                    .with("tree", &tree.key)
                    .with("program", fs::read(scripts.join(PROGRAM))?)
                    .with_files(&context.repo.join("tools/composefs-store/src"))?,
            },
        )?;
        Ok(Self {
            facts: guest_disk::facts(&disk),
            disk: disk.file,
        })
    }

    /// What the store has of an image.
    ///
    /// # Errors
    ///
    /// When the program that made the store did not say it.
    pub fn image(&self, image: Image) -> Result<Stored> {
        let words = self.fact("images", |line| line.strip_prefix(image.name()))?;
        let stored = words.trim().split_once(' ').and_then(|(digest, objects)| {
            Some(Stored {
                digest: digest.to_owned(),
                new_objects: objects.parse().ok()?,
            })
        });
        stored.with_context(|| format!("{PROGRAM} said {words:?} of image {}", image.name()))
    }

    /// The path in the store of the object of a file in an image.
    ///
    /// # Errors
    ///
    /// When the image has no such file, or the file no object.
    pub fn object(&self, image: Image, path: &str) -> Result<String> {
        let name = format!("objects-{}", image.name());
        let object = self
            .fact(&name, |line| {
                let (file, object) = line.split_once('\t')?;
                (file == path).then_some(object)
            })
            .with_context(|| format!("{path} has no object in image {}", image.name()))?;
        Ok(format!("/composefs/objects/{object}"))
    }

    /// What `find` takes of the first line of a file of facts of which it takes anything.
    fn fact(&self, name: &str, find: impl Fn(&str) -> Option<&str>) -> Result<String> {
        let path = self.facts.join(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let found = text.lines().find_map(find).map(str::to_owned);
        found.with_context(|| format!("{} does not say it", path.display()))
    }
}
