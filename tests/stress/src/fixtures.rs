// SPDX-License-Identifier: GPL-2.0

//! The images on the disk of scripts/make-fixtures.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use serde::Deserialize;

/// manifest.json.
#[derive(Deserialize)]
struct Manifest {
    images: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    image: PathBuf,
    digest: String,
    objects: Vec<PathBuf>,
}

/// An image and its objects.
#[derive(Clone, Debug)]
pub struct Image {
    /// Name in the manifest.
    pub name: String,
    /// Absolute path.
    pub path: PathBuf,
    /// fs-verity digest of the image, as `digest=` takes it.
    pub digest: String,
    /// Its object directories.
    pub objects: Vec<PathBuf>,
}

/// All images of the disk.
pub struct Fixtures {
    images: Vec<Image>,
}

impl Fixtures {
    /// Reads the manifest of the disk that is mounted at `top`.
    pub fn read(top: &Path) -> Result<Self> {
        let path = top.join("manifest.json");
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let manifest: Manifest = serde_json::from_reader(file)
            .with_context(|| format!("cannot parse {}", path.display()))?;
        let images = manifest.images.into_iter().map(|entry| Image {
            name: entry.name,
            path: top.join(entry.image),
            digest: entry.digest,
            objects: entry.objects.iter().map(|dir| top.join(dir)).collect(),
        });
        Ok(Self {
            images: images.collect(),
        })
    }

    /// The image of this name.
    pub fn image(&self, name: &str) -> Result<&Image> {
        let found = self.images.iter().find(|image| image.name == name);
        found.with_context(|| format!("the fixtures have no image {name}"))
    }
}
