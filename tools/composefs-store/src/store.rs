// SPDX-License-Identifier: GPL-2.0

//! The store, as a user sees it: images with names, and objects.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs::fsverity::FsVerityHashValue;
use composefs::repository::Repository;
use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::flock;

/// A store. While it is open, nobody removes an object from it.
pub struct Store<Digest: FsVerityHashValue> {
    /// Its path.
    pub path: PathBuf,
    /// What the crate knows of it.
    pub repository: Arc<Repository<Digest>>,
}

/// How many objects, and their bytes.
#[derive(Clone, Copy, Default)]
pub struct Count {
    /// How many.
    pub objects: u64,
    /// The sum of their sizes.
    pub bytes: u64,
}

impl<Digest: FsVerityHashValue> Store<Digest> {
    /// Opens a store, and waits while another program removes objects.
    ///
    /// # Errors
    ///
    /// When it is no store, or one of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let repository = Repository::open_path(CWD, path)
            .with_context(|| format!("failed to open the store {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            repository: Arc::new(repository),
        })
    }

    /// Waits until no other program has the store open, and keeps them out. The crate takes the same
    /// lock on the same open file when it removes objects, so that it is held all the time.
    ///
    /// # Errors
    ///
    /// When the lock cannot be taken.
    pub fn lock(&self) -> Result<()> {
        flock(self.repository.repo_fd(), FlockOperation::LockExclusive)
            .with_context(|| format!("failed to lock {}", self.path.display()))
    }

    /// The images that have their digest as a name in `images/`, with the further names in
    /// `images/refs/`.
    ///
    /// # Errors
    ///
    /// When the directories cannot be read.
    pub fn images(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let directory = self.path.join("images");
        let mut images: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in names(&directory)? {
            let path = directory.join(&name);
            // A link whose object is gone is no image. The crate removes it. What cannot be looked
            // at may be an image.
            if Digest::from_hex(&name).is_ok()
                && path
                    .try_exists()
                    .with_context(|| format!("failed to look at {}", path.display()))?
            {
                images.insert(name, Vec::new());
            }
        }
        for (name, target) in self.repository.list_image_refs("")? {
            let digest = target.rsplit('/').next().unwrap_or_default();
            if let Some(names) = images.get_mut(digest) {
                names.push(name);
            }
        }
        for names in images.values_mut() {
            names.sort();
        }
        Ok(images)
    }

    /// The digest of an image that is given by its digest or a name.
    ///
    /// # Errors
    ///
    /// When the store has no such image.
    pub fn digest_of(&self, image: &str) -> Result<String> {
        let known = self.images()?;
        let hex = image.split_once(':').map_or(image, |(_, digest)| digest);
        known
            .iter()
            .find(|(digest, names)| *digest == hex || names.iter().any(|name| name == image))
            .map(|(digest, _)| digest.clone())
            .with_context(|| {
                format!(
                    "{} has no image \"{image}\": see \"composefs-store list\"",
                    self.path.display()
                )
            })
    }

    /// The objects that an image needs, without itself.
    ///
    /// # Errors
    ///
    /// When the image is damaged or cannot be read.
    pub fn needs(&self, digest: &str) -> Result<HashSet<Digest>> {
        self.repository
            .objects_for_image(digest)
            .with_context(|| format!("failed to read the image {digest}"))
    }

    /// The path of an image.
    ///
    /// # Errors
    ///
    /// When this is no digest of the store's hash.
    pub fn image(&self, digest: &str) -> Result<PathBuf> {
        Ok(self.object(&Digest::from_hex(digest)?))
    }

    /// The path of an object.
    pub fn object(&self, digest: &Digest) -> PathBuf {
        self.path.join("objects").join(digest.to_object_pathname())
    }

    /// All objects that are there.
    ///
    /// # Errors
    ///
    /// When a directory cannot be read, or has something else in it.
    pub fn objects(&self) -> Result<HashSet<Digest>> {
        let top = self.path.join("objects");
        let mut objects = HashSet::new();
        for first in 0..=u8::MAX {
            let directory = top.join(format!("{first:02x}"));
            for name in names(&directory)? {
                let Ok(object) = Digest::from_object_dir_and_basename(first, &name) else {
                    bail!("{} is no object", directory.join(name).display());
                };
                objects.insert(object);
            }
        }
        Ok(objects)
    }
}

/// The sizes of objects, each looked up once.
pub struct Sizes<'a, Digest: FsVerityHashValue> {
    store: &'a Store<Digest>,
    known: HashMap<Digest, Option<u64>>,
}

impl<'a, Digest: FsVerityHashValue> Sizes<'a, Digest> {
    /// Knows no size yet.
    pub fn new(store: &'a Store<Digest>) -> Self {
        Self {
            store,
            known: HashMap::new(),
        }
    }

    /// The size of an object, `None` if it is missing.
    pub fn of(&mut self, object: &Digest) -> Option<u64> {
        if let Some(size) = self.known.get(object) {
            return *size;
        }
        let size = fs::metadata(self.store.object(object)).ok();
        let size = size.map(|metadata| metadata.len());
        self.known.insert(object.clone(), size);
        size
    }

    /// Counts objects. Those that are missing have no bytes.
    pub fn count<'b>(&mut self, objects: impl IntoIterator<Item = &'b Digest>) -> Count
    where
        Digest: 'b,
    {
        let mut count = Count::default();
        for object in objects {
            count.objects += 1;
            count.bytes += self.of(object).unwrap_or(0);
        }
        count
    }
}

/// The names in a directory, none if there is no such directory.
///
/// # Errors
///
/// When it cannot be read.
pub fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("failed to read {}", directory.display()))?,
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
