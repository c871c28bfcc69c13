// SPDX-License-Identifier: GPL-2.0

//! The tree of an image, file by file, as a dump.

use std::io;
use std::io::Write;

use crate::dir::Entries;
use crate::dir::Entry;
use crate::error::Error;
use crate::image::FileType;
use crate::image::HEADER_SIZE;
use crate::image::Image;
use crate::image::Inode;
use crate::image::PATH_MAX;
use crate::image::to_u64;
use crate::text::Text;
use crate::xattrs;

/// Number of the root directory.
const ROOT: u32 = 0;

/// Writes the dump of an image. `limit` is the largest length that it may have, in bytes.
///
/// The whole image is checked first: nothing is written if anything of it is wrong, so that no
/// program that reads the dump takes a part of a tree for all of it.
///
/// # Errors
///
/// What is wrong with the image, that the dump is too long, or that it cannot be written.
pub fn dump(image: &Image<'_>, writer: impl Write, limit: u64) -> Result<(), Error> {
    Walk::new(image, Text::new(io::sink(), limit)).run()?;
    Walk::new(image, Text::new(writer, limit)).run()
}

/// The largest length that a dump usually has. That of an ordinary tree has about the size of the
/// image.
pub fn usual_limit(image: &Image<'_>) -> u64 {
    image.size().saturating_mul(64).saturating_add(64 << 20)
}

/// Where a file was seen first.
#[derive(Clone, Copy)]
struct Place {
    directory: u32,
    /// Of its entry.
    index: u32,
}

impl Place {
    /// Not yet. A directory with this many entries would be larger than any can be.
    const NOWHERE: Self = Self {
        directory: u32::MAX,
        index: u32::MAX,
    };

    fn is_nowhere(self) -> bool {
        self.index == u32::MAX
    }
}

/// A directory that is being read.
struct Level<'a> {
    number: u32,
    entries: Entries<'a>,
    /// The next entry.
    next: u32,
    /// Length of the directory's path.
    path: usize,
    /// Name of the entry before.
    before: &'a [u8],
}

struct Walk<'i, 'a, W> {
    image: &'i Image<'a>,
    text: Text<W>,
    /// By number of the inode.
    places: Vec<Place>,
    /// From the root to the directory that is being read. As long as a path at most.
    levels: Vec<Level<'a>>,
    /// Path of the file, without a slash at its end.
    path: Vec<u8>,
}

impl<'i, 'a, W: Write> Walk<'i, 'a, W> {
    fn new(image: &'i Image<'a>, text: Text<W>) -> Self {
        Self {
            image,
            text,
            places: vec![Place::NOWHERE; image.inodes()],
            levels: Vec::new(),
            path: Vec::new(),
        }
    }

    fn run(mut self) -> Result<(), Error> {
        let root = self.image.inode(ROOT)?;
        if root.file_type != FileType::Directory {
            let at = to_u64(HEADER_SIZE);
            return Err(Error::damaged(at, "the root is not a directory").of(ROOT));
        }
        // No entry leads to the root: one that does is refused as a second one.
        self.set_place(
            ROOT,
            Place {
                directory: ROOT,
                index: 0,
            },
        );
        self.line(&root, None).map_err(|error| error.of(ROOT))?;
        self.enter(ROOT, &root)?;
        while let Some(level) = self.levels.last_mut() {
            let (number, index) = (level.number, level.next);
            let entry = level.entries.get(index).map_err(|error| error.of(number))?;
            let Some(entry) = entry else {
                self.levels.pop();
                continue;
            };
            if level.before >= entry.name {
                let what = "directory entry: its name does not follow the one before";
                return Err(Error::damaged(entry.at, what).of(number));
            }
            level.before = entry.name;
            level.next = index.saturating_add(1);
            let path = level.path;
            self.path.truncate(path);
            self.path.push(b'/');
            self.path.extend_from_slice(entry.name);
            let place = Place {
                directory: number,
                index,
            };
            self.file(place, &entry)?;
        }
        self.text.flush()
    }

    /// Writes the line of an entry. A directory is read next.
    fn file(&mut self, place: Place, entry: &Entry<'a>) -> Result<(), Error> {
        let of_entry = |what: &'static str| Err(Error::damaged(entry.at, what).of(place.directory));
        if self.path.len() > PATH_MAX {
            return of_entry("directory entry: its path is longer than 4095 bytes");
        }
        let number = entry.inode;
        if usize::try_from(number).map_or(true, |number| number >= self.image.inodes()) {
            return of_entry("directory entry: its inode is not in the table of inodes");
        }
        let inode = self.image.inode(number)?;
        if inode.file_type != entry.file_type {
            return of_entry("directory entry: its inode is of another type");
        }
        let first = self.place(number);
        if first.is_nowhere() {
            self.set_place(number, place);
            self.line(&inode, None).map_err(|error| error.of(number))?;
            if inode.file_type == FileType::Directory {
                self.enter(number, &inode)?;
            }
            return Ok(());
        }
        if inode.file_type == FileType::Directory {
            return of_entry("directory entry: its directory is also somewhere else");
        }
        let target = self.path_of(first)?;
        self.line(&inode, Some(&target))
            .map_err(|error| error.of(number))
    }

    fn enter(&mut self, number: u32, inode: &Inode<'a>) -> Result<(), Error> {
        let entries = Entries::new(inode.data).map_err(|error| error.of(number))?;
        self.levels.push(Level {
            number,
            entries,
            next: 0,
            path: self.path.len(),
            before: b"",
        });
        Ok(())
    }

    /// Writes a line. A hard link has the path of the first name.
    fn line(&mut self, inode: &Inode<'a>, link: Option<&[u8]>) -> Result<(), Error> {
        let text = &mut self.text;
        match self.path.is_empty() {
            true => text.put(b"/")?,
            false => text.optional(&self.path)?,
        }
        let size = match inode.file_type {
            FileType::Regular => inode.size,
            FileType::Symlink => to_u64(inode.data.bytes.len()),
            _ => 0,
        };
        let link_mark = if link.is_some() { "@" } else { "" };
        text.format(format_args!(
            " {size} {link_mark}{:o} {} {} {} {} {}.{} ",
            inode.mode,
            inode.nlink,
            inode.uid,
            inode.gid,
            inode.rdev,
            inode.mtime,
            inode.mtime_nsec,
        ))?;
        if let Some(target) = link {
            text.optional(target)?;
            return text.put(b" - -\n");
        }
        match inode.file_type {
            FileType::Directory => text.put(b"-")?,
            _ => text.optional(inode.data.bytes)?,
        }
        text.put(b" - ")?;
        match inode.digest {
            // That of an empty file says nothing: its content is in the image.
            digest if inode.size == 0 || digest.is_empty() => text.put(b"-")?,
            digest => {
                for byte in digest {
                    text.format(format_args!("{byte:02x}"))?;
                }
            }
        }
        xattrs::for_each(inode.xattrs, |name, value| text.xattr(name, value))?;
        text.put(b"\n")
    }

    /// The path of a file that was seen: the names on the way up to the root.
    fn path_of(&self, mut place: Place) -> Result<Vec<u8>, Error> {
        let mut names = Vec::new();
        // As many as a path has names. The way up ends earlier: each directory was entered from
        // one that had been entered before.
        for _ in 0..PATH_MAX {
            let directory = self.image.inode(place.directory)?;
            let entries = Entries::new(directory.data)?;
            if let Some(entry) = entries.get(place.index)? {
                names.push(entry.name);
            }
            if place.directory == ROOT {
                break;
            }
            place = self.place(place.directory);
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Ok(path)
    }

    fn place(&self, number: u32) -> Place {
        let place = usize::try_from(number)
            .ok()
            .and_then(|number| self.places.get(number));
        place.copied().unwrap_or(Place::NOWHERE)
    }

    fn set_place(&mut self, number: u32, place: Place) {
        let slot = usize::try_from(number)
            .ok()
            .and_then(|number| self.places.get_mut(number));
        if let Some(slot) = slot {
            *slot = place;
        }
    }
}
