// SPDX-License-Identifier: GPL-2.0

//! A tree, as such an image stores it.

use std::collections::BTreeMap;

/// A tree: directories refer to files by number. The root is number 0.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub inodes: Vec<Inode>,
}

/// A file.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    /// With the type.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub size: u64,
    pub mtime: i64,
    pub mtime_nsec: u32,
    /// In seconds. The dump does not have it.
    pub ctime: i64,
    pub data: Data,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub digest: Option<[u8; 32]>,
}

/// What the data of a file is.
#[derive(Clone, Debug, Default)]
pub enum Data {
    #[default]
    None,
    Entries(BTreeMap<Vec<u8>, u32>),
    /// The target of a symlink, or the path of an object.
    Path(Vec<u8>),
}

impl Tree {
    /// Adds a file to a directory. Returns its number.
    pub fn add(&mut self, directory: u32, name: &str, inode: Inode) -> u32 {
        let number = self.inodes.len() as u32;
        self.inodes.push(inode);
        self.link(directory, name, number);
        number
    }

    /// Adds a name of a file to a directory.
    pub fn link(&mut self, directory: u32, name: &str, number: u32) {
        let Data::Entries(entries) = &mut self.inodes[directory as usize].data else {
            panic!("{directory} is not a directory");
        };
        entries.insert(name.as_bytes().to_vec(), number);
        self.inodes[number as usize].nlink += 1;
    }
}

impl Inode {
    pub fn new(mode: u32, data: Data) -> Self {
        Self {
            mode,
            data,
            mtime: 1_674_000_000,
            mtime_nsec: 5,
            ctime: 7,
            ..Self::default()
        }
    }

    pub fn directory() -> Self {
        Self::new(0o40755, Data::Entries(BTreeMap::new()))
    }

    pub fn symlink(target: &str) -> Self {
        Self::new(0o120777, Data::Path(target.into()))
    }

    /// A file with an object.
    pub fn regular(size: u64, path: &str) -> Self {
        let data = match path {
            "" => Data::None,
            path => Data::Path(path.into()),
        };
        Self {
            size,
            ..Self::new(0o100644, data)
        }
    }

    #[must_use]
    pub fn with_xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.xattrs.insert(name.into(), value.into());
        self
    }
}
