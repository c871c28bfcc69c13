// SPDX-License-Identifier: GPL-2.0

//! The object directory, and the disk that it is on.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::major;
use rustix::fs::minor;

/// An object directory.
#[derive(Debug)]
pub struct Store {
    /// The directory.
    pub objects: PathBuf,
    /// The number of the disk.
    pub device: u64,
}

impl Store {
    /// The object directory at this path.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn open(objects: &Path) -> Result<Self> {
        let found = fs::metadata(objects)
            .with_context(|| format!("cannot open the object directory {}", objects.display()))?;
        Ok(Self {
            objects: objects.to_path_buf(),
            device: found.dev(),
        })
    }

    /// The kernel's name of the disk, if the file system is on one.
    pub fn disk_name(&self) -> Option<OsString> {
        let (major, minor) = (major(self.device), minor(self.device));
        let path = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        path.file_name().map(OsString::from)
    }

    /// The disk, if the file system is on one.
    pub fn disk(&self) -> Option<File> {
        File::open(Path::new("/dev").join(self.disk_name()?)).ok()
    }

    /// The names of the images among the objects, for a repository of cfsctl.
    pub fn images(&self) -> Vec<PathBuf> {
        let Ok(links) = fs::read_dir(self.objects.join("../images")) else {
            return Vec::new();
        };
        let target = |path: PathBuf| {
            let target = fs::read_link(path).ok()?;
            let object = target.strip_prefix("../objects").ok()?;
            Some(object.to_path_buf())
        };
        links
            .flatten()
            .filter_map(|entry| target(entry.path()))
            .collect()
    }
}
