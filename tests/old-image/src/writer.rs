// SPDX-License-Identifier: GPL-2.0

//! Writes an image, and remembers where each field of it is.
//!
//! As the writer of that time did: files with the same attributes or digests share their bytes, and
//! what has integers in it begins at a multiple of four.

use std::collections::HashMap;

use crate::tree::Data;
use crate::tree::Inode;
use crate::tree::Tree;

/// Size of the header, and of an inode.
pub const HEADER: usize = 128;
pub const INODE: usize = 96;

/// Where an integer or a string is in an image.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub at: usize,
    pub size: usize,
}

/// An image and its fields.
#[derive(Clone, Debug, Default)]
pub struct Written {
    pub bytes: Vec<u8>,
    pub fields: Vec<Field>,
}

impl Written {
    fn put(&mut self, name: &'static str, bytes: &[u8]) {
        self.fields.push(Field {
            name,
            at: self.bytes.len(),
            size: bytes.len(),
        });
        self.bytes.extend_from_slice(bytes);
    }

    fn u32(&mut self, name: &'static str, value: u32) {
        self.put(name, &value.to_le_bytes());
    }

    fn u64(&mut self, name: &'static str, value: u64) {
        self.put(name, &value.to_le_bytes());
    }

    /// The field with this name, of the inode or entry that is number `index` of those with one.
    ///
    /// # Panics
    ///
    /// If there is no such field.
    pub fn field(&self, name: &str, index: usize) -> Field {
        let mut found = self.fields.iter().filter(|field| field.name == name);
        *found.nth(index).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The image with another value in a field.
    pub fn with(&self, field: Field, value: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let value = value.to_le_bytes();
        let size = field.size.min(value.len());
        bytes[field.at..field.at + size].copy_from_slice(&value[..size]);
        bytes
    }
}

/// What the references of the inodes lead to.
#[derive(Default)]
struct Variable {
    written: Written,
    /// Where strings and attributes are that others may share.
    shared: HashMap<Vec<u8>, usize>,
}

impl Variable {
    /// Adds bytes. Returns their position.
    fn add(&mut self, part: Written, align: bool, share: bool) -> (u64, u32) {
        let length = part.bytes.len() as u32;
        if part.bytes.is_empty() {
            return (0, 0);
        }
        if let Some(at) = self.shared.get(&part.bytes).filter(|_| share) {
            return (*at as u64, length);
        }
        let bytes = &mut self.written.bytes;
        if align {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let at = bytes.len();
        self.shared.insert(part.bytes.clone(), at);
        self.written
            .fields
            .extend(part.fields.iter().map(|field| Field {
                at: at + field.at,
                ..*field
            }));
        self.written.bytes.extend(part.bytes);
        (at as u64, length)
    }
}

/// Writes an image of a tree.
pub fn write(tree: &Tree) -> Written {
    let mut variable = Variable::default();
    let references: Vec<_> = tree
        .inodes
        .iter()
        .map(|inode| {
            let data = match &inode.data {
                Data::Entries(_) => variable.add(entries(tree, inode), true, false),
                Data::Path(path) => variable.add(string("path", path), false, true),
                Data::None => (0, 0),
            };
            let digest = inode.digest.as_ref().map_or(&[][..], |digest| digest);
            let digest = variable.add(string("digest", digest), false, true);
            let xattrs = variable.add(xattrs(inode), true, true);
            [data, xattrs, digest]
        })
        .collect();

    let mut image = Written::default();
    let data_offset = HEADER + INODE * tree.inodes.len();
    image.u32("version", 1);
    image.u32("magic", 0xc078_629a);
    image.u64("data_offset", data_offset as u64);
    image.put("header unused", &[0; 112]);
    for (inode, references) in tree.inodes.iter().zip(references) {
        image.u32("mode", inode.mode);
        image.u32("nlink", inode.nlink);
        image.u32("uid", inode.uid);
        image.u32("gid", inode.gid);
        image.u32("rdev", inode.rdev);
        image.u64("size", inode.size);
        image.u64("mtime", inode.mtime as u64);
        image.u32("mtime_nsec", inode.mtime_nsec);
        image.u64("ctime", inode.ctime as u64);
        image.u32("ctime_nsec", 0);
        let names = [
            ("data offset", "data length"),
            ("xattrs offset", "xattrs length"),
            ("digest offset", "digest length"),
        ];
        for ((offset, length), reference) in names.into_iter().zip(references) {
            image.u64(offset, reference.0);
            image.u32(length, reference.1);
        }
        image.put("inode unused", &[0; 8]);
    }
    for field in variable.written.fields {
        image.fields.push(Field {
            at: data_offset + field.at,
            ..field
        });
    }
    image.bytes.extend(variable.written.bytes);
    image
}

fn string(name: &'static str, bytes: &[u8]) -> Written {
    let mut part = Written::default();
    part.put(name, bytes);
    part
}

/// The entries of a directory. An empty one has none, and no count.
fn entries(tree: &Tree, inode: &Inode) -> Written {
    let mut part = Written::default();
    let Data::Entries(entries) = &inode.data else {
        return part;
    };
    if entries.is_empty() {
        return part;
    }
    part.u32("dirent count", entries.len() as u32);
    let mut offset = 0;
    for (name, number) in entries {
        part.u32("dirent inode", *number);
        part.u32("name offset", offset);
        part.put("name length", &[name.len() as u8]);
        let file_type = tree.inodes[*number as usize].mode >> 12;
        part.put("dirent type", &[file_type as u8]);
        part.put("dirent padding", &[0; 2]);
        offset += name.len() as u32;
    }
    for name in entries.keys() {
        part.put("name", name);
    }
    part
}

fn xattrs(inode: &Inode) -> Written {
    let mut part = Written::default();
    if inode.xattrs.is_empty() {
        return part;
    }
    part.put("xattr count", &(inode.xattrs.len() as u16).to_le_bytes());
    for (name, value) in &inode.xattrs {
        part.put("xattr name length", &(name.len() as u16).to_le_bytes());
        part.put("xattr value length", &(value.len() as u16).to_le_bytes());
    }
    for (name, value) in &inode.xattrs {
        part.put("xattr name", name);
        part.put("xattr value", value);
    }
    part
}
